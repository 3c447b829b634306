"""Networks and their inputs."""

from gorl.networks.embedding import FourierTime as FourierTime
from gorl.networks.mlp import MLP as MLP, LayerNormMLP as LayerNormMLP
from gorl.networks.normalizer import (
    AbstractNormalizer as AbstractNormalizer,
    RunningNormalizer as RunningNormalizer,
    ShrinkingNormalizer as ShrinkingNormalizer,
    keep_statistics as keep_statistics,
    trainable as trainable,
    update_normalizers as update_normalizers,
)
from gorl.networks.sealed import sealed as sealed
