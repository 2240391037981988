"""The documents that hospitals, coordinator and researchers exchange, sign and verify."""

from sonoshare_shared.protocol.documents.base import Document
from sonoshare_shared.protocol.documents.plan import AuditPlan, Mechanism, ReleasePlan, StudyPlan, Task
from sonoshare_shared.protocol.documents.release import (
    FileEntry,
    HospitalBudget,
    LogHead,
    PrivacyStatement,
    ReleaseManifest,
)
from sonoshare_shared.protocol.documents.roster import HospitalEntry, Roster
from sonoshare_shared.protocol.documents.statement import AuditPredicate, AuditStatement, Digests, Subject

__all__ = [
    "AuditPlan",
    "AuditPredicate",
    "AuditStatement",
    "Digests",
    "Document",
    "FileEntry",
    "HospitalBudget",
    "HospitalEntry",
    "LogHead",
    "Mechanism",
    "PrivacyStatement",
    "ReleaseManifest",
    "ReleasePlan",
    "Roster",
    "StudyPlan",
    "Subject",
    "Task",
]
