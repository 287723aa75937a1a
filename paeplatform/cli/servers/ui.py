"""`paeplatform ui`: the Dagster and MLflow pages on this machine, until Ctrl-C."""

from __future__ import annotations

import os
import signal
import time
from types import FrameType
from typing import Annotated, NoReturn

import typer
from rich.console import Console

from paeplatform.cli.options import HomeOption, PresetOption, settings_for
from paeplatform.cli.servers.services import (
    DAGSTER_PORT,
    HOST,
    MLFLOW_PORT,
    ServiceError,
    platform_services,
    require_free_port,
    stop_all,
    wait_until_up,
)


def ui(
    dagster_port: Annotated[
        int, typer.Option(help="Port of the Dagster page.", min=1024, max=65535)
    ] = DAGSTER_PORT,
    mlflow_port: Annotated[
        int, typer.Option(help="Port of the MLflow page.", min=1024, max=65535)
    ] = MLFLOW_PORT,
    automation: Annotated[
        bool,
        typer.Option(
            "--automation",
            help="Start with both sensors on: deliveries are noticed and what is stale is made, unasked.",
        ),
    ] = False,
    timeout: Annotated[float, typer.Option(help="Seconds to wait for both pages to answer.")] = 180.0,
    home: HomeOption = None,
    preset: PresetOption = None,
) -> None:
    """Serve Dagster (assets, runs, sensors) and MLflow (trainings, models) on this machine until Ctrl-C.

    Both listen on 127.0.0.1 only and refuse what other web pages send. Logs go to var/log/.

    Example: [bold]paeplatform ui --dagster-port 3001 --mlflow-port 5001[/bold]
    """
    from paeplatform.resources.instance import open_instance
    from paeplatform.resources.registry import ModelRegistry
    from paeplatform.resources.settings import AUTOMATION_VARIABLE

    if automation:
        os.environ[AUTOMATION_VARIABLE] = "on"
    settings = settings_for(home, preset)
    require_free_port(dagster_port, "--dagster-port")
    require_free_port(mlflow_port, "--mlflow-port")
    settings.mlruns.mkdir(parents=True, exist_ok=True)
    ModelRegistry.from_settings(settings).follow_home()  # MLflow's server reads the records as they are
    # Makes Dagster's databases when the home is new: the web server and the daemon, which start at the same moment,
    # would both try to, and what two of them leave behind cannot be opened again.
    with open_instance(settings):
        pass
    services = platform_services(
        dagster_home=settings.dagster_home,
        tracking_uri=settings.tracking_uri,
        artifact_root=settings.artifact_root,
        log_dir=settings.home / "var" / "log",
        dagster_port=dagster_port,
        mlflow_port=mlflow_port,
    )
    console = Console()
    # A terminal's hang-up and `kill` end the children just as Ctrl-C does.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    try:
        for service in services:
            service.start()
        with console.status("starting Dagster and MLflow (ten to thirty seconds) ..."):
            wait_until_up(services, timeout, lambda service: console.print(f"  {service.name} is up"))
        console.print(
            f"\n  Dagster  http://{HOST}:{dagster_port}\n  MLflow   http://{HOST}:{mlflow_port}\n"
            f"  report   {settings.report}\n\nCtrl-C ends both.",
            highlight=False,
        )
        while True:
            for service in services:
                service.raise_if_ended()
            time.sleep(0.5)
    except KeyboardInterrupt:
        console.print("\nending ...")
    except ServiceError as error:
        Console(stderr=True).print(f"error: {error}", style="red", markup=False, highlight=False)
        raise typer.Exit(1) from None
    finally:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)  # a second Ctrl-C must not leave children behind
        stop_all(services)


def _interrupt(number: int, frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt
