//! No messages: the verifier of old kernels finds programs with them too large (E2BIG on 5.10). What they tell is counted all
//! the same.

/// Takes the place of a message.
macro_rules! nothing {
    ($ctx:expr, $($message:tt)*) => {{
        let _unused = $ctx;
    }};
}
pub(crate) use {nothing as info, nothing as warn};
