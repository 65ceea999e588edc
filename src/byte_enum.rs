//! Enums that one process of a start passes to another as a byte.

/// Makes such an enum, and the function that finds the variant of a byte.
macro_rules! byte_enum {
    (
        $(#[$attribute:meta])*
        $visibility:vis enum $name:ident {
            $( $(#[$documentation:meta])* $variant:ident $(= $byte:literal)?, )*
        }
    ) => {
        $(#[$attribute])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        #[repr(u8)]
        $visibility enum $name {
            $( $(#[$documentation])* $variant $(= $byte)?, )*
        }

        impl $name {
            $visibility fn from_byte(byte: u8) -> Option<Self> {
                let variants = [$( Self::$variant, )*];
                variants.into_iter().find(|variant| *variant as u8 == byte)
            }
        }
    };
}

pub(crate) use byte_enum;
