"""Who sends alerts: every fact about a survey, and nothing else knows it."""
