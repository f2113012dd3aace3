"""A plugin for pytest: hypothesis stops at the first example that fails, without shrinking it.

It also sets no deadline for examples: on a busy machine, slowness is not the code's fault.
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
