"""Environments and what wraps them."""

from gorl.environments.base import AbstractEnvironment as AbstractEnvironment, make_state as make_state
from gorl.environments.brax import BraxEnvironment as BraxEnvironment
from gorl.environments.mjcf import MJCFEnvironment as MJCFEnvironment
from gorl.environments.mujoco_import import make_importable
from gorl.environments.playground import PlaygroundEnvironment as PlaygroundEnvironment
from gorl.environments.task import EpisodeRules as EpisodeRules, Task as Task

make_importable()
