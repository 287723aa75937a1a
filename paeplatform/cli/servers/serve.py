"""`paeplatform serve`: p(z) of photometry over HTTP, from the champions."""

from __future__ import annotations

from typing import Annotated

import typer

from paeplatform.cli.options import HomeOption, PresetOption, settings_for
from paeplatform.cli.printing import print_text
from paeplatform.cli.servers.services import try_to_listen
from paeplatform.errors import InputError

LOOPBACK = ("127.0.0.1", "localhost", "::1")


def serve(
    port: Annotated[int, typer.Option(help="Port.", min=1, max=65535)] = 8080,
    host: Annotated[
        str, typer.Option(help="Address to listen on. There is no authentication: keep to this machine.")
    ] = "127.0.0.1",
    model: Annotated[
        list[str] | None,
        typer.Option(
            help="Serve only this registered model. May be given again. Default: all.", show_default=False
        ),
    ] = None,
    poll: Annotated[
        float, typer.Option(help="Seconds between two looks at @champion.", min=0.5, max=3600.0)
    ] = 10.0,
    home: HomeOption = None,
    preset: PresetOption = None,
) -> None:
    """Answer photometry with p(z) from the champions, until Ctrl-C.

    POST /v1/photoz, GET /v1/models, GET /health. The numbers are those of fits to the 102 channels for the same
    photometry, object_id and preset. A champion that moves is taken over without a pause. A home that never had a
    champion is served by the model that ships with the package: each answer says so.

    Examples: [bold]paeplatform serve --port 8080[/bold],
    [bold]paeplatform serve --model sbi-redshift --preset standard --home runs/standard[/bold]
    """
    settings = settings_for(home, preset)
    from paeplatform.assets.promotion.gated import GATED, gated

    kinds = list({one.name: one for one in map(gated, model)}.values()) if model else list(GATED.values())
    try:
        try_to_listen(host, port)
    except OSError as error:
        raise InputError(
            f"{host}:{port} cannot be listened on ({error.strerror or error}): choose another --port or --host"
        ) from error

    import uvicorn

    from paeplatform.instrument.bands import load_bands
    from paeplatform.serving.app import create_app
    from paeplatform.serving.champion import ServedChampion

    n_bands = len(load_bands())
    champions = [ServedChampion(kind, settings, n_bands=n_bands, poll_seconds=poll) for kind in kinds]
    names = ", ".join(f"{kind.name} as {kind.short}" for kind in kinds)
    print_text(
        f"  http://{host}:{port}/v1/photoz   serves {names}\n  http://{host}:{port}/health      says when they are "
        "loaded and warm\n\nCtrl-C ends it.",
    )
    if host not in LOOPBACK:
        print_text(f"{host} may be reached by others: there is no authentication here.", style="yellow")
    uvicorn.run(create_app(champions, n_bands), host=host, port=port, log_level="warning")
