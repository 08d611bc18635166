"""Parses the files of deploy/ and compares what they say about the same thing.

    python3 -m unittest deploy/check/manifests.py                            the files with each other
    LLAMA_ADAPTER=target/debug/llama-adapter python3 -m unittest ...         and with the program

Needs PyYAML. With the package kubernetes-validate, the manifests are checked against Kubernetes' own schemas.
"""

import os
import pathlib
import re
import subprocess
import sys
import tempfile
import unittest

import yaml

sys.path.insert(0, os.path.dirname(__file__))
from replicas import Real  # noqa: E402

try:
    import kubernetes_validate
except ImportError:
    kubernetes_validate = None

DEPLOY = pathlib.Path(__file__).parents[1]
KUBERNETES = DEPLOY / "kubernetes"
UNITS = {"Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "m": 1 << 20}
OPTION = re.compile(r"--([a-z-]+)=(\S+)")


def size(text):
    number, unit = re.fullmatch(r"(\d+)([A-Za-z]*)", text).groups()
    return int(number) * UNITS[unit]


def options(args):
    assert args[0] == "serve", args
    return dict(OPTION.fullmatch(arg).groups() for arg in args[1:])


class Parsed(unittest.TestCase):
    def setUp(self):
        self.dockerfile = (DEPLOY / "Dockerfile").read_text()
        self.nginx = (DEPLOY / "nginx.conf").read_text()
        self.compose = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
        self.kustomization = yaml.safe_load((KUBERNETES / "kustomization.yaml").read_text())
        manifests = [yaml.safe_load((KUBERNETES / name).read_text()) for name in self.kustomization["resources"]]
        self.kinds = {manifest["kind"]: manifest for manifest in manifests}
        self.deployment = self.kinds["Deployment"]
        self.pod = self.deployment["spec"]["template"]["spec"]
        self.server = self.pod["containers"][0]
        self.services = self.compose["services"]
        self.replicas = [service for service in self.services.values() if service["image"] == "llama-adapter"]

    def port(self):
        return int(re.search(r"^EXPOSE (\d+)$", self.dockerfile, re.M)[1])


class Files(Parsed):
    def test_everybody_uses_the_port_of_the_image(self):
        port = self.port()
        listen = f"0.0.0.0:{port}"
        for args in [self.server["args"]] + [replica["command"] for replica in self.replicas]:
            self.assertEqual(options(args)["listen"], listen)
        self.assertEqual([(p["name"], p["containerPort"]) for p in self.server["ports"]], [("http", port)])
        self.assertEqual(self.kinds["Service"]["spec"]["ports"][0]["targetPort"], "http")
        annotations = self.deployment["spec"]["template"]["metadata"]["annotations"]
        self.assertEqual(annotations["prometheus.io/port"], str(port))
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            self.assertEqual(self.server[probe]["httpGet"]["port"], "http")
        for replica in self.replicas:
            self.assertIn(f"127.0.0.1:{port}/health/ready", replica["healthcheck"]["test"][-1])

    def test_the_proxy_knows_the_replicas_of_the_compose_file(self):
        upstream = re.findall(r"^ *server ([a-z0-9-]+):(\d+)", self.nginx, re.M)
        names = [name for name, service in self.services.items() if service in self.replicas]
        self.assertEqual(upstream, [(name, str(self.port())) for name in sorted(names)])
        self.assertEqual(set(self.services["proxy"]["depends_on"]), set(names))
        listen = re.search(r"listen (\d+);", self.nginx)[1]
        self.assertEqual(self.services["proxy"]["ports"][0].split(":")[-1], listen)

    def test_nothing_runs_as_root(self):
        user = int(re.search(r"^USER (\d+):\1$", self.dockerfile, re.M)[1])
        self.assertIn(f"--uid {user} ", self.dockerfile)
        context = self.pod["securityContext"]
        self.assertTrue(context["runAsNonRoot"])
        self.assertEqual({context["runAsUser"], context["runAsGroup"], context["fsGroup"]}, {user})
        self.assertFalse(self.server["securityContext"]["allowPrivilegeEscalation"])
        self.assertTrue(self.services["proxy"]["user"])
        for service in self.services.values():
            self.assertEqual((service["read_only"], service["cap_drop"]), (True, ["ALL"]))

    def test_labels_select_the_pods(self):
        labels = self.deployment["spec"]["template"]["metadata"]["labels"]
        selectors = [
            self.deployment["spec"]["selector"]["matchLabels"],
            self.kinds["Service"]["spec"]["selector"],
            self.kinds["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"],
            self.pod["topologySpreadConstraints"][0]["labelSelector"]["matchLabels"],
        ]
        self.assertEqual(selectors, [labels] * len(selectors))

    def test_the_autoscaler_owns_the_number_of_replicas_and_reads_the_renamed_metric(self):
        spec = self.kinds["HorizontalPodAutoscaler"]["spec"]
        self.assertEqual(spec["scaleTargetRef"]["name"], self.deployment["metadata"]["name"])
        self.assertEqual(spec["scaleTargetRef"]["apiVersion"], self.deployment["apiVersion"])
        self.assertNotIn("replicas", self.deployment["spec"])
        self.assertGreaterEqual(spec["minReplicas"], 2, "the disruption budget needs a second one")
        rule = yaml.safe_load((KUBERNETES / "prometheus-adapter.yaml").read_text())["rules"]["custom"][0]
        metric = spec["metrics"][0]["pods"]["metric"]["name"]
        self.assertEqual(rule["name"]["as"], metric)
        self.assertTrue(re.fullmatch(rule["name"]["matches"], metric))
        self.assertTrue(rule["seriesQuery"].startswith(metric + "{"))

    def test_there_is_time_to_drain(self):
        pause = int(self.server["lifecycle"]["preStop"]["exec"]["command"][1])
        drain = int(options(self.server["args"])["drain-seconds"])
        self.assertGreater(self.pod["terminationGracePeriodSeconds"], pause + drain)
        for replica in self.replicas:
            drain = int(options(replica["command"])["drain-seconds"])
            self.assertGreater(int(replica["stop_grace_period"].rstrip("s")), drain)

    def test_caches_fit_into_the_memory_limit_and_leave_as_much_for_the_model(self):
        given = options(self.server["args"])
        caches = size(given["cache-bytes"]) + size(given["adapter-bytes"])
        self.assertGreaterEqual(size(self.server["resources"]["limits"]["memory"]), 2 * caches)

    def test_mounted_volumes_exist_and_hold_what_the_options_name(self):
        volumes = {volume["name"] for volume in self.pod["volumes"]}
        mounts = {mount["mountPath"]: mount["name"] for mount in self.server["volumeMounts"]}
        self.assertEqual(set(mounts.values()), volumes)
        for option in ("model", "api-key-file"):
            path = options(self.server["args"])[option]
            self.assertTrue(any(path.startswith(mount + "/") for mount in mounts), path)

    def test_the_image_has_one_name(self):
        names = {image["name"] for image in self.kustomization["images"]}
        self.assertEqual(names, {self.server["image"]})
        self.assertEqual({replica["image"] for replica in self.replicas}, names)

    def test_the_compose_file_builds_our_dockerfile_from_the_root(self):
        for replica in self.replicas:
            root = (DEPLOY / replica["build"]["context"]).resolve()
            self.assertTrue((root / "Cargo.toml").exists())
            self.assertEqual(root / replica["build"]["dockerfile"], DEPLOY / "Dockerfile")
        sources = re.findall(r"^COPY (?!--from)(.+) \S+$", self.dockerfile, re.M)
        for source in " ".join(sources).split():
            self.assertTrue((root / source).exists(), source)

    @unittest.skipUnless(kubernetes_validate, "needs the package kubernetes-validate")
    def test_manifests_follow_the_schemas_of_kubernetes(self):
        for manifest in self.kinds.values():
            kubernetes_validate.validate(manifest, "1.32", strict=True)


@unittest.skipUnless(os.environ.get("LLAMA_ADAPTER"), "LLAMA_ADAPTER names no program")
class Program(Parsed):
    """What the files say, against the program."""

    @classmethod
    def setUpClass(cls):
        cls.help = subprocess.run(
            [os.environ["LLAMA_ADAPTER"], "serve", "--help"], check=True, capture_output=True, text=True
        ).stdout
        cls.log = tempfile.TemporaryFile()
        cls.real = Real(os.environ["LLAMA_ADAPTER"], cls.log)

    @classmethod
    def tearDownClass(cls):
        cls.real.stop()
        cls.log.close()

    def test_the_program_has_the_options(self):
        lists = [self.server["args"]] + [replica["command"] for replica in self.replicas]
        files = (DEPLOY / "compose.yaml").read_text() + (KUBERNETES / "deployment.yaml").read_text()
        commented = re.findall(r"# - (--\S+)", files)
        for name in {name for args in lists for name in options(args)} | {OPTION.match(text)[1] for text in commented}:
            self.assertRegex(self.help, rf"--{name}\b")

    def test_the_program_has_the_paths_of_the_probes(self):
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            self.assertEqual(self.real.get(self.server[probe]["httpGet"]["path"])[0], 200)

    def test_the_program_has_the_metric(self):
        metric = self.kinds["HorizontalPodAutoscaler"]["spec"]["metrics"][0]["pods"]["metric"]["name"]
        self.assertIn(metric, self.real.metrics())

    def test_the_proxy_lets_the_programs_largest_body_through(self):
        body = re.search(r"--max-body.*?\[default: (\S+)\]", self.help, re.S)[1]
        self.assertGreaterEqual(size(re.search(r"client_max_body_size (\w+);", self.nginx)[1]), size(body))


if __name__ == "__main__":
    unittest.main()
