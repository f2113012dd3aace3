"""The only package that speaks SQL: functions on the caller's transaction."""
