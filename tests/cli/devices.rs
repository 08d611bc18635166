//! `devices`, and the check of a device before a run.

use serde_json::Value;

use crate::program::{Program, keys};
use crate::training::{short_train_args, write_eval_rows};

/// The GPU device in `LLAMA_ADAPTER_TEST_DEVICES`, if there is one.
fn gpu_device() -> Option<String> {
    let names = std::env::var("LLAMA_ADAPTER_TEST_DEVICES").ok()?;
    let mut names = names.split(',').map(|name| name.trim().to_owned());
    names.find(|name| device::open(name).is_ok_and(|open| !open.info.kind.is_cpu()))
}

#[test]
fn the_devices_of_the_build_are_listed_and_compared_with_the_reference() {
    let text = Program::new().run(&["devices"]).ok();
    let reference = device::reference().unwrap().info.name;
    assert!(text.starts_with("device "), "{text}");
    for open in device::list().into_iter().flatten() {
        let name = open.info.name;
        assert!(text.contains(&format!("\n{name} ")), "{text}");
        let checked = text.contains(&format!("\n{name} passed the check\n"));
        assert_eq!(checked, name != reference, "{text}");
    }
}

#[test]
fn one_device_as_json() {
    let program = Program::new();
    for open in device::list().into_iter().flatten().filter(|open| open.info.kind.is_cpu()) {
        let name = open.info.name.as_str();
        let line = program.run(&["devices", "--device", name, "--json"]).json();
        let expected = [
            "device",
            "description",
            "kind",
            "api",
            "driver",
            "limits",
            "formats",
            "fused",
            "check",
        ];
        assert_eq!(keys(&line), expected);
        assert_eq!(line["device"], name);
        assert_eq!(line["fused"], name == "flex");
        if line["check"] != Value::Null {
            assert_eq!(line["check"]["ok"], true, "{line}");
            let part = &line["check"]["parts"][0];
            assert_eq!(keys(part), ["part", "worst", "difference", "allowed", "verdict"]);
        }
        let line = program.run(&["devices", "--device", name, "--json", "--no-check"]).json();
        assert_eq!(line["check"], Value::Null);
    }
}

#[test]
fn an_index_out_of_range_is_refused() {
    for backend in device::BACKENDS.iter().filter(|b| b.compiled && b.indexed) {
        let name = format!("{}:4000", backend.name);
        // Wrong usage if there are other devices, else an error of the machine.
        let (code, message) = match device::open(backend.name) {
            Ok(_) => (2, format!("error: no device `{name}` (available: ")),
            Err(_) => (1, format!("error: no `{}` device found on this machine", backend.name)),
        };
        for args in
            [&["generate", "-p", "a", "--device", &name][..], &["devices", "--device", &name]]
        {
            let error = Program::new().run(args).fails(code);
            assert!(error.starts_with(&message), "{error}");
            assert!(error.contains("\nhint: "), "{error}");
        }
    }
}

#[test]
fn a_cpu_backend_is_not_checked_before_a_run() {
    let outcome = Program::new().run(&["generate", "-p", "a", "--max-new-tokens", "1"]);
    assert_eq!((outcome.code, outcome.stderr.as_str()), (Some(0), ""));
}

#[test]
fn a_gpu_is_checked_before_a_run_unless_skipped() {
    let Some(name) = gpu_device() else { return };
    let program = Program::new();
    let args = ["generate", "-p", "a", "--max-new-tokens", "1", "--device", &name];
    let outcome = program.run(&args);
    assert!(outcome.stderr.contains(" matches "), "{}", outcome.stderr);
    outcome.ok();
    let mut unchecked = args.to_vec();
    unchecked.push("--skip-device-check");
    let outcome = program.run(&unchecked);
    assert_eq!((outcome.code, outcome.stderr.as_str()), (Some(0), ""));

    let few = write_eval_rows(program.folder());
    let output = program.folder().join("run");
    let more = [&few, "--max-steps", "1", "--device", &name, "--quiet"];
    let outcome = program.run(&short_train_args(output.to_str().unwrap(), &more));
    assert_eq!((outcome.code, outcome.stderr.as_str()), (Some(0), ""));
}
