"""Training over MPI: several processes train what one trains, and end together when one of them fails.

    LLAMA_ADAPTER=target/debug/llama-adapter python3 -m unittest discover -v -s tests/mpi

Needs OpenMPI's mpirun and the program with the feature `mpi`. LLAMA_ADAPTER_WITHOUT_MPI is one without it.
"""

import json
import os
import pathlib
import random
import shutil
import signal
import tempfile
import time
import unittest

from ranks import MPIRUN, PROGRAM, ROOT, Started, adapter, command, distance, log, losses, of_different_ranks, run

ROWS = ROOT / "crates/built-in/assets/instructions/train.jsonl"
# Two epochs of steps with 9, 9 and 1 rows: the last has fewer rows than ranks.
SETTINGS = ["--batch-size", "3", "--gradient-accumulation-steps", "3", "--epochs", "2", "--learning-rate", "0.02"]
TOLERANCE = 1e-5


class Case(unittest.TestCase):
    def setUp(self):
        temporary = tempfile.TemporaryDirectory()
        self.addCleanup(temporary.cleanup)
        self.folder = pathlib.Path(temporary.name)
        rows = ROWS.read_text().splitlines()
        # Unequal rows: one is much longer than the others.
        long = json.loads(rows[0])
        long["input"] = " ".join(json.loads(row)["input"] or "word" for row in rows[20:60])
        (self.folder / "rows.jsonl").write_text("\n".join([json.dumps(long)] + rows[1:19]) + "\n")
        (self.folder / "held-out.jsonl").write_text("\n".join(rows[30:35]) + "\n")

    def args(self, name, *more, data="rows.jsonl"):
        paths = ["--data", self.folder / data, "--eval-data", self.folder / "held-out.jsonl"]
        settings = SETTINGS if "--epochs" not in more else SETTINGS[:4] + SETTINGS[6:]
        return ["train", *map(str, paths), "--output", str(self.folder / name), "--samples", "0",
                "--exact-match-rows", "3", *settings, *more]

    def train(self, ranks, name, *more):
        found = run(command(ranks, self.args(name, *more)), self.folder)
        self.assertEqual(found.returncode, 0, found.stderr)
        return json.loads(found.stdout), found.stderr

    def assert_same_training(self, name, expected):
        found, expected = self.folder / name, self.folder / expected
        self.assertEqual(len(losses(found)), len(losses(expected)))
        for one, other in zip(losses(found), losses(expected)):
            self.assertAlmostEqual(one / other, 1, delta=TOLERANCE)
        self.assertLess(distance(adapter(found), adapter(expected)), TOLERANCE)
        for one, other in zip(log(found, "eval"), log(expected, "eval"), strict=True):
            self.assertAlmostEqual(one["loss"] / other["loss"], 1, delta=TOLERANCE)
            self.assertEqual(one["exact_match"], other["exact_match"])


class Training(Case):
    def check(self, *more):
        self.train(1, "one", *more)
        for ranks in (2, 3):
            summary, _ = self.train(ranks, str(ranks), *more)
            self.assertEqual(summary["ranks"]["ranks"], ranks)
            self.assert_same_training(str(ranks), "one")
        self.train(3, "again", *more)
        self.assertEqual(losses(self.folder / "again"), losses(self.folder / "3"))
        self.assertEqual(adapter(self.folder / "again"), adapter(self.folder / "3"))

    def test_ranks_train_what_one_process_trains_on_flex(self):
        self.check("--device", "flex")

    def test_ranks_train_what_one_process_trains_on_ndarray(self):
        self.check("--device", "ndarray")

    def test_ranks_keep_shares_of_a_prefix_cache_on_disk(self):
        more = ["--adapter-layers", "2", "--cache", "disk"]
        self.train(1, "one", *more)
        _, errors = self.train(2, "two", *more)
        self.assertIn("once for all rows", errors)
        self.assert_same_training("two", "one")
        self.assertEqual([path.name for path in (self.folder / "two").glob("*prefix_cache*")], [])

    def test_ranks_encode_and_train_with_images(self):
        args = ["train", "--image-encoder", "tiny-vit", "--max-steps", "4", "--samples", "0", "--exact-match-rows", "0",
                "--output"]
        for ranks in (1, 2):
            found = run(command(ranks, [*args, str(self.folder / str(ranks))]), self.folder)
            self.assertEqual(found.returncode, 0, found.stderr)
        self.assertEqual(found.stderr.count("encoding"), 1, found.stderr)
        for one, other in zip(losses(self.folder / "2"), losses(self.folder / "1"), strict=True):
            self.assertAlmostEqual(one / other, 1, delta=TOLERANCE)

    def test_rank_0_alone_prints_and_all_share_the_host(self):
        summary, errors = self.train(2, "two")
        self.assertEqual(errors.count("step 6:"), 1, errors)
        self.assertRegex(errors, r"2 ranks on 1 host: \d+ threads? each, on flex")
        self.assertRegex(errors, r"the busiest had 1\.\d+ times the mean tokens of a step; all-reduce of .* a step")
        self.assertGreaterEqual(summary["ranks"]["imbalance"], 1)

    def test_the_program_works_alone_without_mpirun(self):
        summary, errors = self.train(1, "one")
        self.assertNotIn("ranks", summary)
        self.assertNotIn("rank", errors)

    @unittest.skipUnless("LLAMA_ADAPTER_WITHOUT_MPI" in os.environ, "no program without MPI")
    def test_a_program_without_mpi_refuses_to_be_one_of_several(self):
        program = os.environ["LLAMA_ADAPTER_WITHOUT_MPI"]
        found = run(command(2, self.args("run"), program=program), self.folder)
        self.assertNotEqual(found.returncode, 0)
        self.assertIn("this process was started as one of 2, and this build has no MPI", found.stderr)
        self.assertIn("--features mpi", found.stderr)
        found = run(["ldd", program], self.folder)
        self.assertNotIn("libmpi", found.stdout)


class Refused(Case):
    def refused(self, first, second):
        found = run(of_different_ranks(first, second), self.folder)
        self.assertNotEqual(found.returncode, 0)
        self.assertEqual(found.stdout, "")
        self.assertEqual(found.stderr.count("error: "), 1, found.stderr)
        self.assertFalse((self.folder / "run").exists())
        return found.stderr

    def differ(self, first, second, name):
        errors = self.refused(first, second)
        self.assertIn("the ranks were not started with the same things", errors)
        self.assertRegex(errors, rf"rank 1 on \S+: {name}: .*, rank 0 has ")

    def test_other_data(self):
        text = (self.folder / "rows.jsonl").read_text()
        (self.folder / "other.jsonl").write_text(text.replace("the", "The", 1))
        args = [PROGRAM, *self.args("run")]
        self.differ(args, [PROGRAM, *self.args("run", data="other.jsonl")], "data")

    def test_another_setting(self):
        args = [PROGRAM, *self.args("run")]
        self.differ(args, [*args, "--seed", "7"], r"run\.seed")

    def test_another_base_model(self):
        models = [self.folder / name for name in ("a", "b")]
        for model in models:
            shutil.copytree(ROOT / "crates/built-in/assets/tiny-llama", model)
        weights = models[1] / "model.safetensors"
        changed = bytearray(weights.read_bytes())
        changed[-2] ^= 1
        weights.write_bytes(changed)
        first, second = ([PROGRAM, *self.args("run", "--model", str(model))] for model in models)
        self.differ(first, second, r"base model\.model\.safetensors")

    def test_another_build(self):
        other = self.folder / "llama-adapter"
        shutil.copy(PROGRAM, other)
        with open(other, "ab") as program:
            program.write(b"\0")
        args = self.args("run")
        self.differ([PROGRAM, *args], [str(other), *args], r"program\.checksum")

    def test_an_error_of_one_rank_names_it_and_ends_all(self):
        errors = self.refused([PROGRAM, *self.args("run")], [PROGRAM, *self.args("run", data="missing.jsonl")])
        self.assertRegex(errors, r"error: rank 1 on \S+ failed")
        self.assertIn("missing.jsonl", errors)


class Failures(Case):
    BOUND = 10

    def start(self, ranks, name, *more):
        args = self.args(name, "--checkpoint-every", "1", "--rank-timeout", str(self.BOUND), *more)
        return Started(command(ranks, args), self.folder)

    def test_a_killed_rank_is_named_and_any_number_of_ranks_resumes(self):
        self.train(1, "whole", "--checkpoint-every", "1")
        chosen = random.Random(7)
        for attempt in range(10):
            name, killed = f"run-{attempt}", chosen.randrange(3)
            output = self.folder / name
            with self.start(3, name) as job:
                steps = chosen.randrange(4)
                job.wait_for(lambda: len(losses(output)) >= steps and (output / "run.json").exists())
                time.sleep(chosen.random() * 0.2)
                pid = job.ranks().get(killed)
                if pid is None:
                    continue
                os.kill(pid, signal.SIGKILL)
                code, seconds = job.wait(2 * self.BOUND)
                errors = job.errors()
            self.assertLess(seconds, self.BOUND)
            if code == 0:
                continue  # It was killed after its work.
            self.assertRegex(errors, rf"rank {killed} (on|with)")
            resumed = [] if not (output / "checkpoint.safetensors").exists() else ["--resume"]
            self.train(1 + attempt % 3, name, "--checkpoint-every", "1", *resumed)
            self.assertLess(distance(adapter(output), adapter(self.folder / "whole")), TOLERANCE)

    def test_a_stopped_rank_is_named_after_the_time_limit(self):
        for stopped in (0, 1):
            with self.start(2, f"run-{stopped}", "--epochs", "500") as job:
                job.wait_for(lambda: losses(self.folder / f"run-{stopped}"))
                os.kill(job.ranks()[stopped], signal.SIGSTOP)
                code, seconds = job.wait(4 * self.BOUND)
                errors = job.errors()
            self.assertNotEqual(code, 0)
            self.assertLess(seconds, 2 * self.BOUND)
            self.assertRegex(errors, rf"error: rank {stopped} on \S+ (sent no heartbeat|let the other ranks wait)")
            self.assertIn("--resume continues it, with any number of ranks", errors)

    def test_a_signal_to_one_rank_saves_and_stops_all_after_the_same_step(self):
        output = self.folder / "run"
        self.train(1, "whole", "--epochs", "12")
        with self.start(2, "run", "--epochs", "12") as job:
            job.wait_for(lambda: len(losses(output)) >= 2)
            os.kill(job.ranks()[1], signal.SIGTERM)
            code, _ = job.wait(4 * self.BOUND)
            errors = job.errors()
        self.assertNotEqual(code, 0)
        self.assertIn("everything is saved", errors)
        self.assertNotIn("error: ", errors)
        _, errors = self.train(2, "run", "--epochs", "12", "--resume")
        self.assertRegex(errors, r"resuming after step \d")
        self.assertLess(distance(adapter(output), adapter(self.folder / "whole")), TOLERANCE)


if __name__ == "__main__":
    unittest.main()
