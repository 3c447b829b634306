"""Decoders, which map an observation and a latent to a pre-squash action."""

from gorl.decoders.base import AbstractDecoder as AbstractDecoder
from gorl.decoders.diffusion import DiffusionDecoder as DiffusionDecoder
from gorl.decoders.flow_matching import FlowMatchingDecoder as FlowMatchingDecoder
from gorl.decoders.gaussian import GaussianDecoder as GaussianDecoder
from gorl.decoders.identity import IdentityDecoder as IdentityDecoder
from gorl.decoders.mean_flow import MeanFlowDecoder as MeanFlowDecoder
