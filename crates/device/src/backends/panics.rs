//! Turns a panic into an error, without a message on stderr.

use std::panic::{self, AssertUnwindSafe};
use std::sync::{Arc, Mutex, PoisonError};

/// Runs `work`; the message of a panic is the error.
///
/// Drivers start on threads of their own. So the hook catches the panics of all threads while `work`
/// runs, and prints none of them.
pub(crate) fn catch_panic<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    /// A process has one panic hook.
    static HOOK: Mutex<()> = Mutex::new(());
    let _guard = HOOK.lock().unwrap_or_else(PoisonError::into_inner);
    let first = Arc::new(Mutex::new(None));
    let previous_hook = panic::take_hook();
    let recorded = Arc::clone(&first);
    panic::set_hook(Box::new(move |info| {
        let message = info.payload_as_str().unwrap_or("it panicked").to_owned();
        // Later panics are consequences of the first.
        recorded.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(message);
    }));
    let result = panic::catch_unwind(AssertUnwindSafe(work));
    panic::set_hook(previous_hook);
    let message = first.lock().unwrap_or_else(PoisonError::into_inner).take();
    result.map_err(|_| message.unwrap_or_else(|| "it panicked".into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_its_message() {
        assert_eq!(catch_panic(|| 1), Ok(1));
        let error =
            catch_panic(|| std::thread::spawn(|| panic!("no {}", "driver")).join().unwrap());
        assert_eq!(error, Err::<(), _>("no driver".into()));
    }
}
