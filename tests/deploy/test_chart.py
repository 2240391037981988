"""The chart of a coordinator: rendered and linted by Helm itself, held to its schema, closed by default."""

import json
from typing import Any

import jsonschema
import pytest
import yaml
from tests.deploy.outside_tools import PACKAGED

CHART = PACKAGED / "helm" / "sonoshare"
SITE = {"existingSecret": "consortium", "egressCidrs": ["10.1.0.0/16"]}


def helm() -> Any:
    return pytest.importorskip("helm_python", reason="Helm is not here: make tools")


def rendered(**values: Any) -> list[dict[str, Any]]:
    chart = helm().Chart.load(str(CHART))
    files = chart.render(SITE | values, name="fed")
    return [document for text in files.values() for document in yaml.safe_load_all(text) if document]


def pods(documents: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [document["spec"]["template"]["spec"] for document in documents if "template" in document["spec"]]


def test_helm_finds_nothing_to_say() -> None:
    report = helm().lint(str(CHART), SITE, strict=True)
    assert report["errors"] == []
    assert [message for message in report["messages"] if message["severity"] > 1] == []


def test_every_container_is_closed() -> None:
    found = pods(rendered())
    assert len(found) == 2
    for pod in found:
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert pod["automountServiceAccountToken"] is False
        for container in pod["containers"] + pod.get("initContainers", []):
            closed = {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True}
            assert container["securityContext"] == closed | {"capabilities": {"drop": ["ALL"]}}
            assert container["resources"]["limits"]["memory"]
            assert not any("password" in str(entry).lower() for entry in container.get("env", []))


def test_what_serves_is_probed() -> None:
    for pod in pods(rendered()):
        assert {"readinessProbe", "livenessProbe"} <= set(pod["containers"][0])


def test_every_pod_has_a_policy_both_ways_and_control_is_reached_by_nobody() -> None:
    documents = rendered()
    policies = [document["spec"] for document in documents if document["kind"] == "NetworkPolicy"]
    labels = [d["spec"]["selector"]["matchLabels"] for d in documents if "template" in d["spec"]]
    assert [policy["podSelector"]["matchLabels"] for policy in policies] == labels
    assert all(policy["policyTypes"] == ["Ingress", "Egress"] for policy in policies)
    assert "9093" not in json.dumps(documents)
    assert all("10.1.0.0/16" in json.dumps(policy["egress"]) for policy in policies)


def test_a_coordinator_alone_needs_no_secret_and_takes_a_claim() -> None:
    found = rendered(existingSecret="", catalogue={"enabled": False}, coordinator={"existingClaim": "mine"})
    (pod,) = pods(found)
    assert pod["containers"][0]["env"] == []
    assert {"name": "data", "persistentVolumeClaim": {"claimName": "mine"}} in pod["volumes"]


def schema() -> Any:
    return json.loads((CHART / "values.schema.json").read_text())


def values(**changes: Any) -> dict[str, Any]:
    return dict(yaml.safe_load((CHART / "values.yaml").read_text()) | SITE | changes)


def test_the_shipped_values_fit_the_schema() -> None:
    jsonschema.validate(values(), schema())


@pytest.mark.parametrize(
    "changes",
    [
        {"existingSecret": ""},
        {"egressCidrs": ["everywhere"]},
        {"unknown": 1},
        {"catalogue": {"enabled": True, "replicas": 0}},
        {"coordinator": {"image": {"repository": "x", "tag": "latest"}}},
    ],
)
def test_wrong_values_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(values(**changes), schema())
