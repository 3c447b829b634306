"""Decoders: (observation, latent) -> pre-squash action."""

from gorl.decoders.base import AbstractDecoder as AbstractDecoder
from gorl.decoders.flow_matching import FlowMatchingDecoder as FlowMatchingDecoder
from gorl.decoders.identity import IdentityDecoder as IdentityDecoder
