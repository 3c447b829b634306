"""What a run is on disk: its folder, its record, its checkpoints, and where it comes from."""

from gorl.runs.checkpoint import CheckpointStore as CheckpointStore
from gorl.runs.folder import RunFolder as RunFolder, new_path as new_path
from gorl.runs.provenance import FORMAT as FORMAT, differences as differences, facts as facts
from gorl.runs.record import RecordEntry as RecordEntry
