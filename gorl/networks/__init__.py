"""Networks and their inputs."""

from gorl.networks.embedding import FourierTime as FourierTime
from gorl.networks.mlp import MLP as MLP, LayerNormMLP as LayerNormMLP
from gorl.networks.normalizer import RunningNormalizer as RunningNormalizer, trainable as trainable
