//! Declares the values of an option together with the library values that they stand for.

/// Declares an enum for `#[arg(value_enum)]` and its conversion to a library type.
macro_rules! choice {
    (
        $(#[$attribute:meta])*
        $visibility:vis enum $name:ident => $target:ty {
            $($(#[$value_attribute:meta])* $value:ident => $converted:expr,)+
        }
    ) => {
        $(#[$attribute])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
        $visibility enum $name {
            $($(#[$value_attribute])* $value,)+
        }

        impl From<$name> for $target {
            fn from(choice: $name) -> Self {
                match choice {
                    $($name::$value => $converted,)+
                }
            }
        }
    };
}

pub(crate) use choice;
