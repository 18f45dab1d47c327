"""What notifications say: the processes that render, the templates, the catalogue of types."""

from dataclasses import dataclass

from notification_engine.rendering.builtin import builtin_templates
from notification_engine.rendering.pool import Pool, PoolLimits
from notification_engine.rendering.renderer import PoolRenderer
from notification_engine.services.catalogue import Catalogue
from notification_engine.services.templates import Templates
from notification_engine.settings import Settings
from notification_engine.wiring.stores import Stores


@dataclass(frozen=True, slots=True)
class Content:
    pool: Pool
    renderer: PoolRenderer
    templates: Templates
    catalogue: Catalogue


def build_content(s: Settings, stores: Stores) -> Content:
    limits = PoolLimits(s.RENDER_PROCESSES, s.RENDER_MEMORY_MB, s.RENDER_CPU_SECONDS, s.RENDER_CPU_SECONDS * 10)
    pool = Pool(limits)
    renderer = PoolRenderer(pool)
    return Content(pool, renderer, Templates(stores.documents, renderer, builtin_templates()), Catalogue(stores.types))
