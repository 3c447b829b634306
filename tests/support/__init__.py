"""What several tests are made with: runs, folders, commands, networks and environments."""
