//! The wire format of protocol buffers, as far as events need it.

/// A message that grows field by field.
#[derive(Debug, Default)]
pub(super) struct Message(Vec<u8>);

/// Wire types.
const VARINT: u32 = 0;
const FIXED_64: u32 = 1;
const LENGTH_DELIMITED: u32 = 2;
const FIXED_32: u32 = 5;

impl Message {
    pub fn finish(self) -> Vec<u8> {
        self.0
    }

    fn key(&mut self, field: u32, wire_type: u32) {
        self.raw_varint(u64::from(field << 3 | wire_type));
    }

    /// Seven bits a byte, the lowest first; the high bit says that more follow.
    fn raw_varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    /// Zero is what a reader takes for a field that is not there.
    pub fn varint(&mut self, field: u32, value: u64) {
        if value == 0 {
            return;
        }
        self.key(field, VARINT);
        self.raw_varint(value);
    }

    /// Not written if it is zero.
    pub fn double(&mut self, field: u32, value: f64) {
        if value.to_bits() == 0 {
            return;
        }
        self.key(field, FIXED_64);
        self.0.extend(value.to_le_bytes());
    }

    /// Written even if it is zero: one of several alternatives.
    pub fn float(&mut self, field: u32, value: f32) {
        self.key(field, FIXED_32);
        self.0.extend(value.to_le_bytes());
    }

    /// A text, a message, or packed numbers.
    pub fn bytes(&mut self, field: u32, value: &[u8]) {
        self.key(field, LENGTH_DELIMITED);
        self.raw_varint(value.len() as u64);
        self.0.extend(value);
    }
}

/// A `HistogramProto` of at most 30 buckets of equal width. Values that are not finite are left out.
pub(super) fn histogram(values: &[f64]) -> Vec<u8> {
    const BUCKETS: usize = 30;
    let finite = values.iter().copied().filter(|value| value.is_finite()).collect::<Vec<_>>();
    let (low, high) = crate::series::extent(finite.iter().copied()).unwrap_or((0.0, 0.0));
    let width = (high - low) / BUCKETS as f64;
    let mut counts = vec![0.0; if width > 0.0 { BUCKETS } else { 1 }];
    for value in &finite {
        let bucket = if width > 0.0 { ((value - low) / width) as usize } else { 0 };
        let last = counts.len() - 1;
        counts[bucket.min(last)] += 1.0;
    }
    let count = counts.len();
    let upper =
        |index: usize| if index + 1 == count { high } else { low + (index + 1) as f64 * width };
    let packed = |numbers: &mut dyn Iterator<Item = f64>| {
        numbers.flat_map(f64::to_le_bytes).collect::<Vec<_>>()
    };
    let mut message = Message::default();
    message.double(1, low);
    message.double(2, high);
    message.double(3, finite.len() as f64);
    message.double(4, finite.iter().sum());
    message.double(5, finite.iter().map(|value| value * value).sum());
    message.bytes(6, &packed(&mut (0..count).map(upper)));
    message.bytes(7, &packed(&mut counts.iter().copied()));
    message.finish()
}
