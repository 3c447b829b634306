"""A run on disk: its folder, its record, its checkpoints and its provenance."""

from gorl.runs.beginning import begin as begin
from gorl.runs.checkpoint import CheckpointStore as CheckpointStore
from gorl.runs.folder import RunFolder as RunFolder, new_path as new_path
from gorl.runs.provenance import FORMAT as FORMAT, facts as facts, provenance_differences as provenance_differences
from gorl.runs.record import RecordEntry as RecordEntry
