"""TensorBoard's event files: the bytes that TensorBoard's own classes write, and a check of files that we wrote.

    event_files.py             writes tensorboard/events.tfevents; needs tensorboard alone
    event_files.py --read F    reads the event files in a folder as TensorBoard does and prints a line of JSON
"""

import argparse
import io
import json
import os

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import HistogramProto, Summary
from tensorboard.summary.writer.record_writer import RecordWriter

HERE = os.path.dirname(os.path.abspath(__file__))


def events():
    """Version, start, two scalars at step 0 and at a large one, a histogram. All numbers are exact in f32."""
    yield Event(wall_time=1000.5, file_version="brain.Event:2")
    yield Event(wall_time=1000.5, step=7, session_log=SessionLog(status=SessionLog.START))
    for step, loss, rate in [(0, 3.5, 0.0), (300_000, -0.125, 0.25)]:
        values = [Summary.Value(tag="train/loss", simple_value=loss), Summary.Value(tag="train/learning_rate", simple_value=rate)]
        yield Event(wall_time=1001.25, step=step, summary=Summary(value=values))
    # Four values that fall into the first, the middle and the last of 30 buckets from -15 to 15.
    limits = [-14.0 + index for index in range(30)]
    counts = [0.0] * 30
    for bucket, count in [(0, 1.0), (15, 2.0), (29, 1.0)]:
        counts[bucket] = count
    histogram = HistogramProto(min=-15.0, max=15.0, num=4.0, sum=0.0, sum_squares=450.0, bucket_limit=limits, bucket=counts)
    yield Event(wall_time=1002.0, step=8, summary=Summary(value=[Summary.Value(tag="gates", histo=histogram)]))


def make(out):
    data = io.BytesIO()
    writer = RecordWriter(data)
    for event in events():
        writer.write(event.SerializeToString(deterministic=True))
    os.makedirs(os.path.join(out, "tensorboard"), exist_ok=True)
    with open(os.path.join(out, "tensorboard", "events.tfevents"), "wb") as file:
        file.write(data.getvalue())


def read(folder):
    found = EventAccumulator(folder, size_guidance={"scalars": 0, "histograms": 0})
    found.Reload()
    tags = found.Tags()
    scalars = {tag: [[event.step, event.value] for event in found.Scalars(tag)] for tag in tags["scalars"]}
    histograms = {tag: [[event.step, event.histogram_value.num] for event in found.Histograms(tag)] for tag in tags["histograms"]}
    print(json.dumps({"scalars": scalars, "histograms": histograms}))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", default=HERE, help="folder to write to (default: this one)")
    parser.add_argument("--read", metavar="FOLDER")
    args = parser.parse_args()
    if args.read:
        read(args.read)
    else:
        make(args.out)
