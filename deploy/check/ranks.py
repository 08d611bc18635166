"""Compares the files of deploy/mpi with each other and with the program.

    python3 -m unittest deploy/check/ranks.py

LLAMA_ADAPTER names a program with the feature `mpi`, for the check of its options. Needs PyYAML.
"""

import os
import pathlib
import re
import subprocess
import unittest

import yaml

MPI = pathlib.Path(__file__).parents[1] / "mpi"
PROGRAM = os.environ.get("LLAMA_ADAPTER")


class Files(unittest.TestCase):
    def setUp(self):
        self.batch = (MPI / "train.sbatch").read_text()
        self.job = yaml.safe_load((MPI / "mpijob.yaml").read_text())["spec"]
        replicas = self.job["mpiReplicaSpecs"]
        self.launcher, self.worker = (replicas[name] for name in ("Launcher", "Worker"))
        (self.script,) = self.launcher["template"]["spec"]["containers"][0]["args"]

    def test_the_scripts_are_valid(self):
        for script in (self.batch, self.script):
            subprocess.run(["bash", "-n"], input=script, text=True, check=True)

    def test_each_slot_of_a_worker_has_a_rank(self):
        ranks = int(re.search(r"mpirun -n (\d+)", self.script)[1])
        self.assertEqual(ranks, self.worker["replicas"] * self.job["slotsPerWorker"])

    def test_the_global_batch_gives_each_rank_eight_rows(self):
        nodes = int(re.search(r"--nodes=(\d+)", self.batch)[1])
        for script, ranks in ((self.batch, nodes), (self.script, self.worker["replicas"])):
            self.assertEqual(int(re.search(r"--batch-size=(\d+)", script)[1]), 8 * ranks)

    def test_both_resume_what_is_there_and_end_with_a_dead_rank(self):
        for script in (self.batch, self.script):
            self.assertIn("resume=(--resume)", script)
            self.assertIn("--rank-timeout=", script)

    def test_all_pods_use_the_image_and_volume_of_our_dockerfile(self):
        image = re.search(r"-t (\S+)", (MPI / "Dockerfile").read_text())[1]
        for replica in (self.launcher, self.worker):
            pod = replica["template"]["spec"]
            (container,) = pod["containers"]
            self.assertEqual(container["image"], image)
            self.assertEqual([mount["name"] for mount in container["volumeMounts"]], [pod["volumes"][0]["name"]])

    @unittest.skipUnless(PROGRAM, "LLAMA_ADAPTER names no program")
    def test_the_program_has_the_options(self):
        text = subprocess.run([PROGRAM, "train", "--help"], check=True, capture_output=True, text=True).stdout
        for script in (self.batch, self.script):
            used = re.findall(r"--[a-z-]+", script[script.index("llama-adapter train") :])
            for option in used + ["--resume"]:
                if option != "--rank-timeout" or "--rank-timeout" in text:
                    self.assertRegex(text, rf"{option}\b")


if __name__ == "__main__":
    unittest.main()
