"""Acting in environments: agents, lanes, episodes, rollouts and evaluation."""

from gorl.acting.agent import Agent as Agent
from gorl.acting.evaluator import Evaluator as Evaluator
from gorl.acting.lanes import LaneEnvironment as LaneEnvironment
from gorl.acting.rollout import act as act, episode_metrics as episode_metrics
