from .card_page import write_card
from .evaluation_page import write_report
from .pictures import draw_alert
from .sweep_page import write_sweep_report

__all__ = ["draw_alert", "write_card", "write_report", "write_sweep_report"]
