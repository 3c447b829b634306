"""Environments and what wraps them."""

from gorl.environments.base import AbstractEnvironment as AbstractEnvironment
from gorl.environments.brax import BraxEnvironment as BraxEnvironment
from gorl.environments.mjcf import MJCFEnvironment as MJCFEnvironment
from gorl.environments.playground import PlaygroundEnvironment as PlaygroundEnvironment
