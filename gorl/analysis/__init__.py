"""Analysis of finished and running runs: results, statistics, reports and inspection."""
