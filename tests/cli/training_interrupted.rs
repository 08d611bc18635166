//! `train`: signals, checkpoints, full disks, dry runs and learning-rate range tests.

use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::program::{Outcome, Program, keys, run_to_end};
use crate::training::{adapter, log, short_train_args, write_eval_rows};

/// The names in a folder.
fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).expect("a folder");
    let mut names = entries
        .map(|entry| entry.expect("an entry").file_name().into_string().expect("UTF-8"))
        .collect::<Vec<_>>();
    names.sort();
    names
}

/// Waits until a run has logged an entry of this kind.
fn wait_for(child: &mut Child, folder: &Path, event: &str) {
    while !log(folder).iter().any(|entry| entry["event"] == event) {
        assert_eq!(child.try_wait().expect("known"), None, "the run ended before a {event}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[cfg(unix)]
fn send(signal: &str, child: &Child) {
    let sent = Command::new("kill").args([signal, &child.id().to_string()]).status();
    assert!(sent.expect("kill").success());
}

fn ended(child: Child) -> (Option<i32>, String) {
    let Output { status, stderr, .. } = child.wait_with_output().expect("ended");
    (status.code(), String::from_utf8(stderr).expect("UTF-8"))
}

#[cfg(unix)]
#[test]
fn a_signal_saves_the_run_and_sets_the_exit_code() {
    let program = Program::new();
    let few = write_eval_rows(program.folder());
    for (signal, code) in [("-INT", 130), ("-TERM", 143)] {
        let output = program.folder().join(format!("run{signal}"));
        // No checkpoint but the one of the signal.
        let more = [&few, "--max-steps", "100000", "--checkpoint-every", "100000"];
        let args = short_train_args(output.to_str().unwrap(), &more);
        let mut child = program.command(&args).spawn().expect("the program starts");
        wait_for(&mut child, &output, "step");
        send(signal, &child);
        let (exit, stderr) = ended(child);
        assert_eq!(exit, Some(code), "{stderr}");
        assert!(stderr.contains(": stopped after step "), "{stderr}");
        let last = log(&output).last().unwrap()["step"].as_u64().unwrap();
        assert!(stderr.contains(&format!("stopped after step {last} of 100000")), "{stderr}");

        let mut child = program.command(&[&args[..], &["--resume"]].concat()).spawn().unwrap();
        let is_later = |entry: &Value| entry["step"].as_u64().unwrap() > last;
        while !log(&output).iter().any(is_later) {
            assert_eq!(child.try_wait().expect("known"), None);
            std::thread::sleep(Duration::from_millis(10));
        }
        send(signal, &child);
        let (_, stderr) = ended(child);
        assert!(stderr.contains(&format!("resuming after step {last}\n")), "{stderr}");
    }
}

#[cfg(unix)]
#[test]
fn a_second_signal_ends_the_run_at_once() {
    let program = Program::new();
    let few = write_eval_rows(program.folder());
    let output = program.folder().join("run");
    // The first signal waits for the end of a step, which takes minutes.
    let more = [&few, "--max-steps", "2", "--gradient-accumulation-steps", "100000"];
    let args = short_train_args(output.to_str().unwrap(), &more);
    let mut child = program.command(&args).spawn().expect("the program starts");
    wait_for(&mut child, &output, "eval");
    // The step begins only after this entry; a signal before it would end the run in order.
    std::thread::sleep(Duration::from_secs(2));
    send("-TERM", &child);
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(child.try_wait().expect("known"), None);
    send("-INT", &child);
    let (exit, stderr) = ended(child);
    assert_eq!(exit, Some(130), "{stderr}");
    assert!(!stderr.contains("stopped after"), "{stderr}");
}

#[test]
fn the_last_checkpoints_are_adapters_of_their_own() {
    let program = Program::new();
    let few = write_eval_rows(program.folder());
    let output = program.folder().join("run");
    let more = [&few, "--max-steps", "4", "--checkpoint-every", "1", "--keep", "2", "--quiet"];
    program.run(&short_train_args(output.to_str().unwrap(), &more)).json();
    assert_eq!(names(&output.join("checkpoints")), ["step-3", "step-4"]);
    let earlier = output.join("checkpoints/step-3");
    assert_ne!(adapter(&earlier), adapter(&output));
    let args = ["eval", "--data", &few, "--no-exact-match", "--json", "--adapter"];
    let found = program.run(&[&args[..], &[earlier.to_str().unwrap()]].concat()).json();
    assert!(found["adapter"]["loss"].as_f64().unwrap() < found["base"]["loss"].as_f64().unwrap());
}

/// Runs the program in a shell that forbids files of more than `blocks` times 512 bytes, which is a full disk.
#[cfg(unix)]
fn run_with_file_limit(program: &Program, blocks: u64, args: &[&str]) -> Outcome {
    let plain = program.command(args);
    let mut command = Command::new("sh");
    command
        .args(["-c", "trap '' XFSZ; ulimit -f $0; exec \"$@\"", &blocks.to_string()])
        .arg(plain.get_program())
        .args(plain.get_args())
        .envs(plain.get_envs().filter_map(|(name, value)| Some((name, value?))))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    run_to_end(command, "")
}

#[cfg(unix)]
#[test]
fn a_disk_that_fills_up_during_training_keeps_the_last_checkpoint() {
    let program = Program::new();
    let few = write_eval_rows(program.folder());
    let whole = program.folder().join("whole");
    let more = [&few, "--max-steps", "4", "--checkpoint-every", "2", "--quiet"];
    program.run(&short_train_args(whole.to_str().unwrap(), &more)).json();
    // The first checkpoint has no moments of the optimizer: it is a third of the others.
    let size = std::fs::metadata(whole.join("checkpoint.safetensors")).unwrap().len();
    let output = program.folder().join("run");
    let args = short_train_args(output.to_str().unwrap(), &more);
    let error = run_with_file_limit(&program, size / 2 / 512, &args).fails(1);
    assert!(error.contains("checkpoint.safetensors: cannot write"), "{error}");
    assert!(!names(&output).iter().any(|name| name.contains(".tmp")), "{:?}", names(&output));
    program.run(&[&args[..], &["--resume"]].concat()).json();
    assert_eq!(adapter(&output), adapter(&whole));
}

#[cfg(unix)]
#[test]
fn a_folder_without_write_permission_is_refused_with_a_hint() {
    use std::os::unix::fs::PermissionsExt;

    let program = Program::new();
    let few = write_eval_rows(program.folder());
    let locked = program.folder().join("locked");
    std::fs::create_dir(&locked).unwrap();
    std::fs::set_permissions(&locked, std::fs::Permissions::from_mode(0o555)).unwrap();
    // The administrator may write everywhere, except in a system folder of Linux.
    let is_administrator = std::fs::write(locked.join("test"), "").is_ok();
    let folder = if is_administrator { Path::new("/sys/kernel") } else { &locked };
    if is_administrator && !folder.exists() {
        return;
    }
    let output = folder.join("run");
    let args = short_train_args(output.to_str().unwrap(), &[&few, "--max-steps", "1", "--quiet"]);
    let error = program.run(&args).fails(1);
    assert!(error.contains("cannot write"), "{error}");
    assert!(error.contains("\nhint: check the permissions of the folder"), "{error}");
}

#[cfg(unix)]
#[test]
fn a_folder_that_is_removed_during_training_ends_the_run() {
    let program = Program::new();
    let few = write_eval_rows(program.folder());
    let output = program.folder().join("run");
    let more = [&few, "--max-steps", "100000", "--checkpoint-every", "100000", "--quiet"];
    let args = short_train_args(output.to_str().unwrap(), &more);
    let mut child = program.command(&args).spawn().expect("the program starts");
    wait_for(&mut child, &output, "step");
    std::fs::rename(&output, program.folder().join("moved")).unwrap();
    let (exit, stderr) = ended(child);
    assert_eq!(exit, Some(1), "{stderr}");
    assert!(stderr.contains("run: the folder was removed or replaced"), "{stderr}");
    assert!(!output.exists());
    // The moved run goes on.
    let moved = program.folder().join("moved");
    let again = [&short_train_args(moved.to_str().unwrap(), &more)[..], &["--resume"]].concat();
    let mut child = program.command(&again).spawn().expect("the program starts");
    let before = log(&moved).len();
    while log(&moved).len() <= before {
        assert_eq!(child.try_wait().expect("known"), None);
        std::thread::sleep(Duration::from_millis(10));
    }
    child.kill().expect("killed");
    child.wait().expect("ended");
}

#[test]
fn a_dry_run_prints_size_memory_and_time_and_writes_nothing() {
    let program = Program::new();
    let few = write_eval_rows(program.folder());
    let before = names(program.folder());
    let output = program.folder().join("run");
    let args = short_train_args(output.to_str().unwrap(), &[&few, "--epochs", "2"]);
    let outcome = program.run(&[&args[..], &["--dry-run"]].concat());
    for part in ["dry run, nothing was written", "\n  steps ", "\n  memory ", "\n  time "] {
        assert!(outcome.stderr.contains(part), "{}", outcome.stderr);
    }
    let line = outcome.json();
    assert_eq!(line["dry_run"], true);
    assert_eq!(line["total_steps"].as_u64(), line["steps_per_epoch"].as_u64().map(|n| 2 * n));
    for key in ["seconds", "seconds_per_step", "evaluation_seconds", "labels_per_step"] {
        assert!(line[key].as_f64().unwrap() > 0.0, "{key}: {line}");
    }
    assert!(line["total_memory"].as_u64() > line["memory"]["weights"].as_u64(), "{line}");
    assert_eq!(names(program.folder()), before);

    // It refuses what the run would refuse.
    std::fs::create_dir(&output).unwrap();
    std::fs::write(output.join("notes.txt"), "mine").unwrap();
    let error = program.run(&[&args[..], &["--dry-run", "--quiet"]].concat()).fails(1);
    assert!(error.contains("holds files already"), "{error}");
}

#[test]
fn a_dry_run_of_a_resumption_counts_the_remaining_steps() {
    let program = Program::new();
    let few = write_eval_rows(program.folder());
    let output = program.folder().join("run");
    let args = short_train_args(output.to_str().unwrap(), &[&few, "--max-steps", "3", "--quiet"]);
    program.run(&args).json();
    let files = names(&output);
    let line = program.run(&[&args[..], &["--resume", "--dry-run"]].concat()).json();
    assert_eq!((&line["completed_steps"], &line["seconds"]), (&3.into(), &0.0.into()));
    assert_eq!(names(&output), files);
    let other = [&args[..], &["--resume", "--dry-run", "--seed", "4"]].concat();
    assert!(program.run(&other).fails(1).contains("\n  --seed: then 0, now 4"));
}

#[test]
fn the_learning_rate_finder_suggests_a_rate_and_leaves_the_folder_free() {
    let program = Program::new();
    let few = write_eval_rows(program.folder());
    let output = program.folder().join("run");
    let args = short_train_args(output.to_str().unwrap(), &[&few, "--max-steps", "2"]);
    let outcome = program.run(&[&args[..], &["--lr", "find"]].concat());
    assert!(
        outcome.stderr.contains("the loss falls fastest at --learning-rate "),
        "{}",
        outcome.stderr
    );
    assert!(outcome.stderr.contains(" │") && outcome.stderr.contains(" └─"), "{}", outcome.stderr);
    let line = outcome.json();
    assert_eq!(keys(&line), ["output", "suggested", "diverged", "steps"]);
    // The rate that the defaults use for the built-in model is 3e-2.
    let suggested = line["suggested"].as_f64().unwrap();
    assert!((1e-3..=2e-1).contains(&suggested), "{suggested}");
    assert_eq!(names(&output), ["learning_rates.csv", "learning_rates.json", "run.lock"]);
    let table = std::fs::read_to_string(output.join("learning_rates.csv")).unwrap();
    assert_eq!(table.lines().count() as u64, line["steps"].as_u64().unwrap() + 1);

    let rate = suggested.to_string();
    program.run(&[&args[..], &["--quiet", "--learning-rate", &rate]].concat()).json();
    assert!(names(&output).contains(&"learning_rates.json".to_owned()));
    let error = program.run(&[&args[..], &["--lr", "find", "--resume"]].concat()).fails(2);
    assert!(error.contains("--learning-rate find cannot be used with --resume"), "{error}");
}

#[test]
fn checkpoint_options_may_change_when_a_run_is_resumed() {
    let program = Program::new();
    let few = write_eval_rows(program.folder());
    let output = program.folder().join("run");
    let args = short_train_args(output.to_str().unwrap(), &[&few, "--max-steps", "2", "--quiet"]);
    program.run(&args).json();
    let other = ["--resume", "--checkpoint-every", "7", "--keep", "3", "--checkpoint-minutes", "5"];
    assert_eq!(program.run(&[&args[..], &other].concat()).json()["steps"], 2);
}
