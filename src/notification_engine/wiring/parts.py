"""Everything of which a process is made, in the order in which one part needs another. Nothing runs yet."""

from collections.abc import Callable
from dataclasses import dataclass

from aiohttp.abc import AbstractResolver

from notification_engine.net.fetch import Fetcher
from notification_engine.services.data_protection import DataProtection
from notification_engine.settings import Settings
from notification_engine.storage.erasures import Erasures
from notification_engine.wiring.access import Entrance, build_entrance
from notification_engine.wiring.channels import Channels, WaysOut, build_channels, build_ways_out
from notification_engine.wiring.content import Content, build_content
from notification_engine.wiring.delivery import Delivery, build_delivery
from notification_engine.wiring.protection import data_protection
from notification_engine.wiring.roles import Process
from notification_engine.wiring.signals import Signals, build_signals
from notification_engine.wiring.stores import Stores, build_stores


@dataclass(frozen=True, slots=True)
class Parts:
    process: Process
    signals: Signals
    stores: Stores
    content: Content
    out: WaysOut
    channels: Channels
    delivery: Delivery
    data_protection: DataProtection
    erasures: Erasures
    entrance: Entrance


def assemble(
    s: Settings,
    url: str,
    process: Process,
    *,
    sweep: Callable[[], None],
    fetcher: Fetcher | None,
    resolver: Callable[[], AbstractResolver] | None,
) -> Parts:
    """`sweep` brings this process's next sweep forward."""
    signals = build_signals(s, process, sweep)
    stores = build_stores(s, url, process)
    stores.share_caches(signals.invalidation)
    content = build_content(s, stores)
    out = build_ways_out(s, fetcher=fetcher, resolver=resolver)
    channels = build_channels(s, stores, content, out)
    delivery = build_delivery(s, process, signals, stores, content, channels)
    protection, erasures = data_protection(s, process.clock, stores)
    entrance = build_entrance(s, process, stores, out.providers, delivery.hub)
    return Parts(process, signals, stores, content, out, channels, delivery, protection, erasures, entrance)
