"""The kustomize base and its overlay: valid by Kubernetes' own schemas, and fitting Ringback."""

import re
import shutil
import subprocess
from functools import cache
from typing import Any

import kubernetes_validate
import pytest
from promql_parser import parse

from app.settings import parse_networks
from app.telemetry.registry import DESCRIBED
from tests.deploy.files import (
    DEPLOY,
    check_command,
    check_environment,
    read_all_yaml,
    read_env,
    read_yaml,
)
from tests.deploy.test_compose import LONGEST_ANSWER
from workers.processes import GRACE

KUBERNETES = DEPLOY / "kubernetes"
BASE = KUBERNETES / "base"
NAMES = ("api", "worker", "listener", "webhooks")
# Seconds that Kubernetes gives a pod to end.
DEFAULT_GRACE = 30


@cache
def resources(folder: str) -> list[Any]:
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        pytest.skip("no kubectl on the PATH puts them together")
    made = subprocess.run(
        [kubectl, "kustomize", KUBERNETES / folder], capture_output=True, check=True
    )
    return read_all_yaml(made.stdout.decode())


def of_kind(kind: str, folder: str = "base") -> dict[str, Any]:
    found = (each for each in resources(folder) if each["kind"] == kind)
    return {each["metadata"]["name"]: each for each in found}


@pytest.mark.parametrize("folder", ["base", "overlays/example"])
def test_the_schemas_allow_what_kustomize_makes(folder: str) -> None:
    for resource in resources(folder):
        kubernetes_validate.validate(resource, kubernetes_validate.latest_version(), strict=True)


def test_the_schemas_allow_each_file() -> None:
    """As far as that can be told of what is not put together: without a kubectl, too."""
    for path in {*BASE.glob("*.yaml")} - {BASE / "kustomization.yaml", BASE / "common.yaml"}:
        for resource in read_all_yaml(path.read_text()):
            kubernetes_validate.validate(
                resource, kubernetes_validate.latest_version(), strict=True
            )


@pytest.mark.parametrize("name", NAMES)
def test_a_deployment(name: str) -> None:
    spec = of_kind("Deployment")[f"ringback-{name}"]["spec"]
    pod = spec["template"]["spec"]
    (container,) = pod["containers"]
    check_command(container["args"])
    assert container["args"] == [name]
    names = {each["name"] for each in container["env"]}
    check_environment(names)
    values = {each["name"]: each.get("value", "") for each in container["env"]}
    ports = {each["name"]: str(each["containerPort"]) for each in container["ports"]}
    assert ports["metrics"] == values["RINGBACK_METRICS"].rpartition(":")[2]
    assert ports["metrics"] == spec["template"]["metadata"]["annotations"]["prometheus.io/port"]
    if name == "api":
        assert ports["http"] == values["RINGBACK_HTTP"].rpartition(":")[2]
    # No client can keep the port of the metrics busy.
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        assert container[probe]["httpGet"]["port"] == "metrics"
    assert container["readinessProbe"]["httpGet"]["path"] == "/readyz"
    assert container["livenessProbe"]["httpGet"]["path"] == "/healthz"
    assert container["securityContext"]["readOnlyRootFilesystem"]
    assert pod["securityContext"]["runAsNonRoot"]
    # The password of the switches is for who talks to them.
    assert ("RINGBACK_SWITCHES_FILE" in names) == (name in ("worker", "listener"))
    assert "RINGBACK_REDIS_URL_FILE" in names
    # Each file that it names is there.
    files = {each["value"] for each in container["env"] if each["name"].endswith("_FILE")}
    (mounted,) = (m["mountPath"] for m in container["volumeMounts"] if m["name"] == "secrets")
    (volume,) = (each["projected"] for each in pod["volumes"] if each["name"] == "secrets")
    items = [item for source in volume["sources"] for item in source["secret"]["items"]]
    assert files == {f"{mounted}/{item['path']}" for item in items}
    grace = pod.get("terminationGracePeriodSeconds", DEFAULT_GRACE)
    assert grace > (LONGEST_ANSWER if name == "api" else GRACE)


def test_secrets_have_the_keys_that_are_asked_for() -> None:
    known = {
        each["metadata"]["name"]: set(each["stringData"])
        for each in read_all_yaml((BASE / "secrets.example.yaml").read_text())
    }
    for deployment in of_kind("Deployment").values():
        pod = deployment["spec"]["template"]["spec"]
        # Secrets are files: no environment shows one.
        assert not any("valueFrom" in each for each in pod["containers"][0]["env"])
        for volume in pod["volumes"]:
            assert "secret" not in volume or volume["secret"]["secretName"] in known
            for source in volume.get("projected", {}).get("sources", ()):
                asked = source["secret"]
                assert {item["key"] for item in asked["items"]} <= known[asked["name"]]


def test_what_chooses_pods_chooses_some() -> None:
    labels = [
        each["spec"]["template"]["metadata"]["labels"] for each in of_kind("Deployment").values()
    ]
    chosen = [
        *(
            each["spec"]["selector"]["matchLabels"]
            for each in of_kind("PodDisruptionBudget").values()
        ),
        *(each["spec"]["selector"] for each in of_kind("Service").values()),
    ]
    assert len(chosen) == len(NAMES) + 1
    assert all(any(want.items() <= has.items() for has in labels) for want in chosen)


def test_the_settings_are_ringback_s() -> None:
    check_environment(set(read_env(BASE / "ringback.env")))
    overlay = (KUBERNETES / "overlays/example/kustomization.yaml").read_text()
    check_environment(set(re.findall(r"RINGBACK_\w+", overlay)))


def test_the_ingress_is_a_proxy_that_is_believed() -> None:
    """Or all clients would be one address, and links lead nowhere."""
    folder = KUBERNETES / "overlays/example"
    (generator,) = read_yaml(folder / "kustomization.yaml")["configMapGenerator"]
    settings = dict(line.split("=", 1) for line in generator["literals"])
    assert parse_networks(settings["RINGBACK_PROXIES"])
    (rule,) = read_yaml(folder / "ingress.yaml")["spec"]["rules"]
    assert settings["RINGBACK_PUBLIC_URL"] == f"https://{rule['host']}"


def test_the_port_of_the_metrics_is_for_prometheus() -> None:
    policies = {
        each["metadata"]["name"]: each["spec"]
        for each in read_all_yaml((BASE / "network-policy.yaml").read_text())
    }
    assert policies["ringback-api"]["ingress"] == [{"ports": [{"port": "http"}]}]
    (ingress,) = policies["ringback-processes"]["ingress"]
    assert ingress["ports"] == [{"port": "metrics"}] and ingress["from"]
    assert set(policies["ringback-processes"]["podSelector"]) == {"matchLabels"}


def test_workers_are_scaled_by_a_metric_that_there_is() -> None:
    metrics = of_kind("HorizontalPodAutoscaler")["ringback-worker"]["spec"]["metrics"]
    (asked,) = (each["external"]["metric"] for each in metrics)
    labels = {each.name: set(each.labels) for each in DESCRIBED}
    assert set(asked["selector"]["matchLabels"]) <= labels[asked["name"]]
    (rule,) = read_yaml(KUBERNETES / "prometheus-adapter.yaml")["rules"]["external"]
    assert rule["seriesQuery"] == asked["name"]
    query = rule["metricsQuery"].replace("<<.Series>>", asked["name"])
    parse(query.replace("<<.LabelMatchers>>", 'queue="ringback-calls"'))
