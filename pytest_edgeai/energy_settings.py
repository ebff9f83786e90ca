"""Check what the settings say of energy, before anything runs."""

from __future__ import annotations

from pytest_edgeai.configuration import Settings
from pytest_edgeai.errors import UserError
from pytest_edgeai.measure.energy_factors import carbon_factor


def check_energy_settings(settings: Settings) -> None:
    """Refuse a region that nobody knows and a sysfs that is no directory.

    Raises:
        UserError: names the setting, and what is allowed.
    """
    if settings.sysfs is not None and not settings.sysfs.is_dir():
        raise UserError(
            f'"{settings.sysfs}" is no directory',
            where=settings.where("sysfs"),
            allowed="where a sysfs is mounted, such as /host/sys",
        )
    if settings.carbon_region is not None:
        carbon_factor(settings.carbon_region, settings.where("carbon_region"))
