"""A worker that draws along with a coordinator elsewhere: it has the coordinator's public key and a database's URL."""

from rich.console import Console

from sonoshare_deploy.cli.progress import counted
from sonoshare_deploy.release_workers import drawing_database
from sonoshare_server.release.drawing_database import InDatabase, drawing_name
from sonoshare_server.release.drawing_job import drawing_of
from sonoshare_server.release.workers import Part, draw_shards
from sonoshare_shared.protocol.keys import PublicKey


def draw_along(release: str, coordinator: PublicKey, part: Part, *, lease_seconds: float, console: Console) -> int:
    """Draw shards of a release until none is missing; returns how many were drawn here.

    Args:
        release: which.
        coordinator: whose signature the job must have.
        part: where it draws, and where imported bases are.
        lease_seconds: after which this worker, silent, is taken for dead.
        console: for progress.

    Raises:
        InputError: nothing is to be drawn, or it was begun on another kind of device or with other versions.
        IntegrityError: the job is not the coordinator's.
        FederationError: the database does not answer.
        ModelError: the base is not here.
    """
    with drawing_database() as database, counted(f"release {release}", console) as work:
        drawing = drawing_of(database.job(coordinator, release), coordinator, release)
        sharing = InDatabase(database, drawing_name(coordinator, release), lease_seconds)
        return draw_shards(drawing, sharing, part, lambda done, total: work.told("drawing images", done, total))
