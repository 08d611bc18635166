"""Parquet files in data/, as pyarrow writes them, and their rows as pyarrow reads them."""

import base64
import datetime
import json
import os

import pyarrow
import pyarrow.parquet

# One transparent pixel.
PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)

TURN = pyarrow.struct([("role", pyarrow.string()), ("content", pyarrow.string())])
SCHEMA = pyarrow.schema([
    ("id", pyarrow.int64()),
    ("instruction", pyarrow.string()),
    ("input", pyarrow.large_string()),
    ("output", pyarrow.string()),
    ("score", pyarrow.float32()),
    ("share", pyarrow.float64()),
    ("level", pyarrow.int8()),
    ("flag", pyarrow.bool_()),
    ("day", pyarrow.date32()),
    ("tags", pyarrow.list_(pyarrow.string())),
    ("messages", pyarrow.list_(TURN)),
    ("meta", pyarrow.struct([("source", pyarrow.string()), ("scores", pyarrow.list_(pyarrow.float64()))])),
    ("counts", pyarrow.map_(pyarrow.string(), pyarrow.int32())),
])

ROWS = [
    {
        "id": 1, "instruction": "Nenne die Hauptstadt.", "input": "Österreich", "output": "Wien.",
        "score": 0.1, "share": 0.1, "level": -3, "flag": True, "day": datetime.date(2024, 2, 29),
        "tags": ["a", "ä", None], "messages": [
            {"role": "user", "content": "Hi.\n\"Hello\"?"}, {"role": "assistant", "content": "你好 🙂"},
            {"role": "user", "content": None}],
        "meta": {"source": "s", "scores": [1.0, 2.5]}, "counts": [("x", 1), ("y", None)],
    },
    {
        "id": None, "instruction": "", "input": None, "output": "", "score": None, "share": None,
        "level": None, "flag": None, "day": None, "tags": [], "messages": [], "meta": None, "counts": [],
    },
    {
        "id": -(2**40), "instruction": "a", "input": "b", "output": "c", "score": -2.5, "share": 1e-300,
        "level": 127, "flag": False, "day": datetime.date(1969, 12, 31), "tags": None, "messages": None,
        "meta": {"source": None, "scores": None}, "counts": None,
    },
]

# Further rows, so that dictionaries, several pages and several row groups are used.
ROWS += [
    dict(ROWS[0], id=10 + n, instruction=f"Question {n % 5}", messages=ROWS[0]["messages"][: n % 3]) for n in range(40)
]

# Name, options of `write_table`.
FILES = [
    ("plain", dict(compression="none", use_dictionary=False)),
    ("dictionary", dict(compression="none", use_dictionary=True)),
    ("snappy", dict(compression="snappy", row_group_size=16, data_page_size=256)),
    ("zstd", dict(compression="zstd", data_page_version="2.0")),
    ("gzip", dict(compression="gzip")),
    ("lz4", dict(compression="lz4")),
    ("delta", dict(compression="none", use_dictionary=False, column_encoding={"id": "DELTA_BINARY_PACKED", "output": "DELTA_BYTE_ARRAY"})),
    ("brotli", dict(compression="brotli")),
]


def as_json(row):
    """A row with dates as text and maps as objects."""
    row = dict(row)
    row["day"] = row["day"] and row["day"].isoformat()
    row["counts"] = None if row["counts"] is None else dict(row["counts"])
    # The shortest decimal of the f32, and not of the f64 that Python makes of it.
    row["score"] = row["score"] and round(row["score"], 6)
    return row


def make(out):
    folder = os.path.join(out, "data")
    os.makedirs(folder, exist_ok=True)
    table = pyarrow.Table.from_pylist(ROWS, schema=SCHEMA)
    for name, options in FILES:
        path = os.path.join(folder, f"{name}.parquet")
        pyarrow.parquet.write_table(table, path, **options)
        assert pyarrow.parquet.read_table(path).equals(table), name
    with open(os.path.join(folder, "rows.json"), "w", encoding="utf-8") as file:
        json.dump([as_json(row) for row in table.to_pylist()], file, ensure_ascii=False, separators=(",", ":"))
    chats = pyarrow.table({
        "messages": pyarrow.array([
            [{"role": "user", "content": "Hi."}, {"role": "assistant", "content": "你好"}],
            [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}],
        ], type=pyarrow.list_(TURN)),
    })
    pyarrow.parquet.write_table(chats, os.path.join(folder, "chats.parquet"), compression="zstd")
    instructions = pyarrow.table({
        "instruction": ["Name a color.", "Say nothing.", "Nenne eine Stadt."],
        "input": [None, "", "Österreich"],
        "output": ["Red.", "", "Wien."],
    })
    pyarrow.parquet.write_table(instructions, os.path.join(folder, "instructions.parquet"))
    image = pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])
    images = pyarrow.table({
        "image": pyarrow.array([{"bytes": PNG, "path": "a.png"}, None], type=image),
        "caption": ["A pixel.", "Nothing."],
    })
    pyarrow.parquet.write_table(images, os.path.join(folder, "images.parquet"))


if __name__ == "__main__":
    # Without torch, which `make.py` needs for the other files.
    make(os.path.dirname(os.path.abspath(__file__)))
