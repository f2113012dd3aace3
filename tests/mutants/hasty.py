"""A plugin of pytest's: hypothesis ends at the first example that fails, however large it is."""

from hypothesis import Phase, settings

settings.register_profile("hasty", phases=[Phase.explicit, Phase.generate], database=None)
settings.load_profile("hasty")
