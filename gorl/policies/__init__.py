"""Policies, which map an observation to a distribution over (latent) actions."""

from gorl.policies.base import AbstractGaussianPolicy as AbstractGaussianPolicy, AbstractPolicy as AbstractPolicy
from gorl.policies.denoising import DenoisingPolicy as DenoisingPolicy
from gorl.policies.flow import FlowPolicy as FlowPolicy
from gorl.policies.gaussian import GaussianPolicy as GaussianPolicy
