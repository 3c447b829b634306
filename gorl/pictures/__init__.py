"""Pictures drawn at the end of a stage: the actions' distribution, the decoder's map, a rendered episode."""

from gorl.pictures.action_density import ActionDensity as ActionDensity
from gorl.pictures.base import AbstractPicture as AbstractPicture, CannotDraw as CannotDraw
from gorl.pictures.decoder_map import DecoderMap as DecoderMap
from gorl.pictures.rollout import Rollout as Rollout
