"""Acting in environments: agents, lanes, episodes, rollouts and evaluation."""
