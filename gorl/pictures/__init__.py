"""Pictures of what a stage left: what the policy does, what the decoder has learned, how an episode looks."""

from gorl.pictures.action_density import ActionDensity as ActionDensity
from gorl.pictures.base import AbstractPicture as AbstractPicture, CannotDraw as CannotDraw
from gorl.pictures.decoder_map import DecoderMap as DecoderMap
from gorl.pictures.rollout import Rollout as Rollout
