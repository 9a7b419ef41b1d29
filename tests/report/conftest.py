"""Pictures on the tests' pages are coarse: most of a page's time goes into files of fine ones."""

from collections.abc import Iterator

import pytest


@pytest.fixture(scope="module", autouse=True)
def coarse_pictures(request: pytest.FixtureRequest) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        if request.module.__name__.endswith("_page"):
            patch.setattr("acai_jax.report.themes.DPI", 60)
        yield
