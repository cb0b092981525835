"""What deploy/ has for several machines: each program takes the file that is written for it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from config.load import load
from storage.cluster import peers
from tests.support.edge import Edge
from tests.support.programs import need
from tests.support.repository import ROOT
from tests.support.s3 import free_port

DEPLOY = ROOT / "deploy"
CHART = DEPLOY / "helm/kuager"
NEEDED = {
    "NODE_NAME": "n1",
    "NODE_ADDRESS": "10.0.0.5:8090",
    "NODE_CAMERAS": "400",
    "NODE_PASSWORD": "a long random text",
    "PG_HOST": "postgres",
    "PG_PASSWORD": "secret",
    "S3_BUCKET": "kuager",
    "S3_ENDPOINT": "http://s3:8333",
    "S3_ACCESS_KEY_ID": "key",
    "S3_SECRET_ACCESS_KEY": "secret",
    "PUBLIC_URL": "https://live.example.kz",
}


def named(text: str) -> set[str]:
    """Return what a file takes from the environment."""
    return set(re.findall(r"\$\{(\w+)", "\n".join(re.sub("#.*", "", t) for t in text.split("\n"))))


# -- settings ----------------------------------------------------------------------------------


def test_the_settings_of_several_machines_are_right(tmp_path: Path) -> None:
    shutil.copy(DEPLOY / "kuager.nodes.yaml", tmp_path / "kuager.yaml")
    shutil.copy(DEPLOY / "stations.example.csv", tmp_path / "stations.csv")
    environ = NEEDED | {"CAMERA_PASSWORD": "x"}
    config = load(tmp_path / "kuager.yaml", environ)
    assert config.node is not None and config.node.address == "10.0.0.5:8090"
    assert config.node.password is not None
    assert named((DEPLOY / "kuager.nodes.yaml").read_text()) <= NEEDED.keys()


def test_compose_gives_each_machine_what_its_settings_name() -> None:
    compose = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    files = ("kuager.nodes.yaml", "stations.example.csv")  # its first lines say: copy that one
    wanted = {name for file in files for name in named((DEPLOY / file).read_text())}
    services = compose["services"]
    nodes = {n: s for n, s in services.items() if "NODE_NAME" in s.get("environment", {})}
    assert len(nodes) == 2
    for name, service in nodes.items():
        assert wanted <= service["environment"].keys()
        assert service["environment"]["NODE_ADDRESS"] == f"{name}:8090"
        assert service["init"]  # else ffmpegs of a recorder that was killed are zombies for good
        assert service["read_only"] and service["user"] != "0" and service["cap_drop"] == ["ALL"]
    for service in services.values():
        for volume in service.get("volumes", []):
            source = volume.partition(":")[0]
            if source.startswith("./") and source != "./stations.csv":  # a copy of an example
                assert (DEPLOY / source).exists(), source
            elif not source.startswith("."):
                assert source in compose["volumes"]


def test_compose_makes_its_bucket_however_late_the_server_is(tmp_path: Path) -> None:
    """`weed shell` ends with 0 whatever became of what it was told."""
    programs = {
        "weed": """
            if [ $1 = server ]; then read -r _ < made; exit; fi
            read -r line
            case $line in
            s3.bucket.list) cat buckets ;;
            "s3.bucket.create -name kuager")
              echo >> asked
              if [ $(wc -l < asked) = 3 ]; then
                printf '  kuager\\tsize:0\\tchunk:0\\n' > buckets
                echo > made
              fi ;;
            esac
        """,
        "sleep": "",
    }
    for name, script in programs.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{script}")
        (tmp_path / name).chmod(0o755)
    (tmp_path / "buckets").touch()
    os.mkfifo(tmp_path / "made")
    service = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]["s3"]
    command = service["command"][0].replace("$$", "$").replace("/tmp/", f"{tmp_path}/")
    environ = {"PATH": f"{tmp_path}:/usr/bin:/bin"} | dict.fromkeys(service["environment"], "x")
    subprocess.run(
        [*service["entrypoint"], command], env=environ, cwd=tmp_path, check=True, timeout=60
    )
    assert len((tmp_path / "asked").read_text()) == 3
    assert '"accessKey": "x"' in (tmp_path / "s3.json").read_text()


def test_docker_takes_the_compose_file() -> None:
    docker = shutil.which("docker") or "docker"
    if (
        not shutil.which(docker)
        or subprocess.run([docker, "compose", "version"], capture_output=True).returncode
    ):
        pytest.skip("docker compose is missing")
    command = [docker, "compose", "-f", str(DEPLOY / "compose.yaml"), "config", "--quiet"]
    done = subprocess.run(command, capture_output=True, text=True, env=NEEDED)
    assert done.returncode == 0, done.stderr


def test_the_image_runs_without_root_and_with_locked_requirements() -> None:
    text = (DEPLOY / "Dockerfile").read_text()
    last = text[text.rindex("FROM ") :]
    assert "USER 10001" in last and "make setup" in text and "pip install" not in text
    assert 'CMD ["run", "--config", "/etc/kuager/kuager.yaml"]' in last


def test_nothing_that_is_written_beside_the_examples_goes_into_the_image() -> None:
    """As the stations file that compose.yaml asks for, which has passwords of cameras."""
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    assert "deploy/*" in ignored
    assert [line for line in ignored if line.startswith("!")] == ["!deploy/requirements.txt"]


# -- systemd -----------------------------------------------------------------------------------


def test_systemd_takes_the_unit_and_finds_it_safe(tmp_path: Path) -> None:
    analyze = need("systemd-analyze", "apt-get install systemd")
    text = (DEPLOY / "kuager.service").read_text()
    text = text.replace("/opt/kuager/.venv/bin/kuager", str(ROOT / ".venv/bin/kuager"))
    text = text.replace("User=kuager", "User=daemon")
    unit = tmp_path / "kuager.service"
    unit.write_text(text)
    done = subprocess.run(
        [analyze, "verify", "--man=no", str(unit)], capture_output=True, text=True
    )
    ours = [line for line in done.stderr.splitlines() if "kuager" in line]
    assert not ours, done.stderr
    command = [analyze, "security", "--offline=true", "--threshold=35", "--no-pager", str(unit)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-500:]  # an exposure of at most 3.5


# -- the chart ---------------------------------------------------------------------------------


def rendered(tmp_path: Path, *settings: str) -> list[dict[str, Any]]:
    if (helm := shutil.which("helm")) is None:  # few have it, and nothing else needs it
        pytest.skip("helm is missing")
    sets = [word for setting in settings for word in ("--set", setting)]
    command = [helm, "template", "kuager", str(CHART), *sets]
    environ = {"HOME": str(tmp_path), "PATH": "/usr/bin:/bin"}
    done = subprocess.run(command, capture_output=True, text=True, env=environ)
    assert done.returncode == 0, done.stderr
    return [part for part in yaml.safe_load_all(done.stdout) if part]


def test_the_chart_makes_what_kubernetes_takes(tmp_path: Path) -> None:
    try:
        import kubernetes_validate  # type: ignore[import-not-found, unused-ignore]
    except ImportError:
        pytest.skip("kubernetes-validate is missing: pip install kubernetes-validate")
    for settings in ((), ("web.replicas=2", "nodes.spread=false", "networkPolicy.enabled=false")):
        parts = rendered(tmp_path, *settings)
        for part in parts:
            kubernetes_validate.validate(part, "1.31", strict=True)
        kinds = [part["kind"] for part in parts]
        assert {"StatefulSet", "PodDisruptionBudget", "Service", "ConfigMap"} <= set(kinds)
        assert ("Deployment" in kinds) is bool(settings)
        for part in parts:
            if part["kind"] in ("StatefulSet", "Deployment"):
                pod = part["spec"]["template"]["spec"]
                (container,) = pod["containers"]
                assert container["securityContext"]["readOnlyRootFilesystem"]
                assert pod["securityContext"]["runAsNonRoot"] and pod["shareProcessNamespace"]
                mounted = {mount["name"] for mount in container["volumeMounts"]}
                there = {volume["name"] for volume in pod["volumes"]}
                claims = part["spec"].get("volumeClaimTemplates", ())
                there |= {claim["metadata"]["name"] for claim in claims}
                assert mounted == there


def test_the_settings_of_the_chart_are_right(tmp_path: Path) -> None:
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    shutil.copy(DEPLOY / "stations.example.csv", tmp_path / "stations.csv")
    text = values["config"].replace("/etc/kuager-stations/", "")
    (tmp_path / "kuager.yaml").write_text(text)
    config = load(tmp_path / "kuager.yaml", NEEDED | {"CAMERA_PASSWORD": "x"})
    assert config.node is not None and config.node.cameras == 400
    assert named(text) <= NEEDED.keys()
    assert {p.name for p in (CHART / "templates").iterdir()} >= {"nodes.yaml", "network.yaml"}


def test_no_pod_is_killed_for_a_disk_that_takes_nothing(tmp_path: Path) -> None:
    """Its supervisor cannot say then that it is well; one that hangs does not say so either."""
    text = (CHART / "templates/_helpers.tpl").read_text()
    (line,) = re.findall(r"command: (\[sh, -c, .*\])", text)
    command = [
        word.replace("/spool/kuager/_status", str(tmp_path)) for word in yaml.safe_load(line)
    ]

    def is_alive() -> bool:
        return subprocess.run(command, stderr=subprocess.DEVNULL).returncode == 0

    (tmp_path / "supervisor.json").touch()
    assert is_alive()
    os.utime(tmp_path / "supervisor.json", (1, 1))
    assert not is_alive()
    (tmp_path / "probe").unlink()
    (tmp_path / "probe").mkdir()  # nothing can be written there
    assert is_alive()


# -- nginx -------------------------------------------------------------------------------------


def test_the_second_cache_is_not_open_to_the_world() -> None:
    """It believes who asks it: it has no limits, and passes on for whom he says that he asks."""
    text = (DEPLOY / "nginx/edge.conf").read_text()
    assert re.findall(r"(?m)^ *listen +(\S+);", text) == ["127.0.0.1:8089"]


def test_no_machine_is_left_out_for_what_another_does_not_give() -> None:
    """503 says that an archive, the database or a machine is away: of who says so two in 5 s would
    leave out a machine that is well, and those of any visitor all."""
    for name in ("edge.conf", "public.conf", "compose.conf", "public-locations.conf"):
        text = (DEPLOY / "nginx" / name).read_text()
        for conditions in re.findall(r"(?m)^ *proxy_next_upstream (.*);", text):
            assert set(conditions.split()) <= {"error", "timeout", "http_502"}, name


def test_the_second_cache_says_itself_that_a_machine_hangs() -> None:
    """Who waited as long as it left it out instead: by one machine that hangs all second caches,
    each of which is asked for some of its cameras."""
    waits = r"(?m)^ *proxy_read_timeout (\d+)s;"
    edge = (DEPLOY / "nginx/edge.conf").read_text()
    (another,) = re.findall(r"(?m)^proxy_next_upstream_timeout (\d+)s;", edge)
    of_machines = max(map(int, re.findall(waits, edge)))
    locations = (DEPLOY / "nginx/public-locations.conf").read_text()
    (live,) = re.findall(r"(?s)proxy_pass http://kuager_shelves;([^}]*)\}", locations)
    (of_shelves,) = re.findall(waits, live)
    assert int(of_shelves) > int(another) + of_machines


def test_another_machine_is_asked_where_one_hangs() -> None:
    """nginx asks no other one when that much time has passed: the cameras of one that hung were
    away with it. One that is well may wait for two others itself, and is not left out for them."""
    edge = (DEPLOY / "nginx/edge.conf").read_text()
    (another,) = re.findall(r"(?m)^proxy_next_upstream_timeout (\d+)s;", edge)
    (tries,) = re.findall(r"(?m)^proxy_next_upstream_tries (\d+);", edge)
    assert int(tries) > 1
    live, longest = sorted(
        int(wait) for wait in re.findall(r"(?m)^ *proxy_read_timeout (\d+)s;", edge)
    )
    assert 2 * peers.READ_S < live < int(another) and longest < int(another)


@pytest.mark.parametrize("names", [("nginx.conf",), ("nginx/public.conf", "nginx/compose.conf")])
def test_no_log_of_nginx_has_the_address_of_an_order(names: tuple[str, ...]) -> None:
    """Its secret stands in it, also where it was asked for by http, or could not be answered."""
    locations = (DEPLOY / "nginx/public-locations.conf").read_text()
    for name in names:
        text = (DEPLOY / name).read_text()
        text = text.replace("    include /etc/nginx/kuager/public-locations.conf;\n", locations)
        for server in text.split("\nserver {")[1:]:
            assert "access_log off;" in server, name
            if "proxy_pass" in server:
                (copies,) = re.findall(r"location ~ \^/\(api/v1/\)\?copies/ \{([^}]*)\}", server)
                assert "error_log stderr crit;" in copies, name


@pytest.mark.parametrize("name", ["public.conf", "compose.conf"])
def test_nginx_takes_the_files_of_an_edge(tmp_path: Path, name: str) -> None:
    Edge(tmp_path / "edge", [free_port(), free_port()], name).check()
