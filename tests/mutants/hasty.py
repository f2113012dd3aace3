"""A plugin of pytest's: hypothesis ends at the first example that fails, however large it is.

It takes its time for each, too: on a busy machine slowness is no fault of the code's.
"""

from hypothesis import HealthCheck, Phase, settings

settings.register_profile(
    "hasty",
    phases=[Phase.explicit, Phase.generate],
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
settings.load_profile("hasty")
