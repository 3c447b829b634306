"""Everything that acts in environments: agents, lanes, episodes, rollouts, evaluation."""
