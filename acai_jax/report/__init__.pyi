from .card_page import write_card
from .evaluation_page import write_report
from .pictures import draw_alert

__all__ = ["draw_alert", "write_card", "write_report"]
