//! Opcodes of pickle protocols 2 to 5.
//!
//! Source: CPython, `Lib/pickletools.py`.

macro_rules! opcodes {
    ($($name:ident = $byte:expr;)*) => {
        /// One instruction.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[repr(u8)]
        pub(super) enum Opcode { $($name = $byte),* }

        impl Opcode {
            /// The instruction of a byte.
            pub(super) fn of(byte: u8) -> Option<Self> {
                match byte {
                    $($byte => Some(Self::$name),)*
                    _ => None,
                }
            }
        }
    };
}

opcodes! {
    Mark = b'(';
    Stop = b'.';
    Pop = b'0';
    PopMark = b'1';
    Dup = b'2';
    BinBytes = b'B';
    ShortBinBytes = b'C';
    BinFloat = b'G';
    BinInt = b'J';
    BinInt1 = b'K';
    BinInt2 = b'M';
    None = b'N';
    BinPersId = b'Q';
    Reduce = b'R';
    BinString = b'T';
    ShortBinString = b'U';
    BinUnicode = b'X';
    EmptyList = b']';
    Append = b'a';
    Build = b'b';
    Global = b'c';
    Dict = b'd';
    EmptyDict = b'}';
    Appends = b'e';
    BinGet = b'h';
    LongBinGet = b'j';
    List = b'l';
    BinPut = b'q';
    LongBinPut = b'r';
    SetItem = b's';
    Tuple = b't';
    EmptyTuple = b')';
    SetItems = b'u';
    Proto = 0x80;
    NewObj = 0x81;
    Tuple1 = 0x85;
    Tuple2 = 0x86;
    Tuple3 = 0x87;
    NewTrue = 0x88;
    NewFalse = 0x89;
    Long1 = 0x8a;
    Long4 = 0x8b;
    ShortBinUnicode = 0x8c;
    BinUnicode8 = 0x8d;
    BinBytes8 = 0x8e;
    EmptySet = 0x8f;
    AddItems = 0x90;
    FrozenSet = 0x91;
    NewObjEx = 0x92;
    StackGlobal = 0x93;
    Memoize = 0x94;
    Frame = 0x95;
    ByteArray8 = 0x96;
}
