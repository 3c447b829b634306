"""Policies: observation -> distribution over (latent) actions."""

from gorl.policies.base import AbstractPolicy as AbstractPolicy
from gorl.policies.gaussian import GaussianPolicy as GaussianPolicy
