"""The checks of ``archiver check``, one module for each subject; they return results, no errors."""
