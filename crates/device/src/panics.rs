//! A panic ─► an error, without the message on stderr.

use std::panic::{self, AssertUnwindSafe};
use std::sync::{Arc, Mutex, PoisonError};

/// Runs `work`; what anything panics with in the meantime is the error.
///
/// Drivers are started on threads of their own: hence every thread's panic is taken as this one's,
/// and nobody's is printed until `work` is over.
pub(crate) fn caught<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    /// There is one hook in a process.
    static HOOK: Mutex<()> = Mutex::new(());
    let _one_at_a_time = HOOK.lock().unwrap_or_else(PoisonError::into_inner);
    let said = Arc::new(Mutex::new(None));
    let before = panic::take_hook();
    let heard = Arc::clone(&said);
    panic::set_hook(Box::new(move |info| {
        let message = info.payload_as_str().unwrap_or("it panicked").to_owned();
        // The first one: others follow from it.
        heard.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(message);
    }));
    let result = panic::catch_unwind(AssertUnwindSafe(work));
    panic::set_hook(before);
    let said = said.lock().unwrap_or_else(PoisonError::into_inner).take();
    result.map_err(|_| said.unwrap_or_else(|| "it panicked".into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_its_message() {
        assert_eq!(caught(|| 1), Ok(1));
        let error = caught(|| std::thread::spawn(|| panic!("no {}", "driver")).join().unwrap());
        assert_eq!(error, Err::<(), _>("no driver".into()));
    }
}
