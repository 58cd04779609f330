from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.snake_case import snake_case


@pytest.mark.parametrize(
    ("name", "key"),
    [
        (
            "Order Completed Last 30Days",
            "order_completed_last_30days",
        ),  # digits do not open a word inside letters
        ("Order Completed Last 30 Days", "order_completed_last_30_days"),
        ("Email Opened 30 Days", "email_opened_30_days"),
        ("Vanessa GA test", "vanessa_ga_test"),
        ("orderCompletedLast30Days", "order_completed_last30_days"),  # capitals open words
        ("order_completed_last_30days", "order_completed_last_30days"),  # a key is its own key
        ("High-Value Users", "high_value_users"),
        ("Big Spenders (>$500)", "big_spenders_500"),
        ("Cart Abandoners - US/CA", "cart_abandoners_us_ca"),
        ("VIP", "vip"),
        ("VIPs 2024 Q1", "vips_2024_q1"),
        ("iOS Users", "i_os_users"),  # a capital always opens a word
        ("New Users 7days", "new_users_7days"),
        ("30-day Actives", "30_day_actives"),
        ("  Trailing  Spaces  ", "trailing_spaces"),
        ("Churn Risk: High!", "churn_risk_high"),
        ("Mother's Day Shoppers", "mother_s_day_shoppers"),
        ("LTV>100", "ltv_100"),
        ("e-mail opt-in", "e_mail_opt_in"),
        ("Double__Underscore", "double_underscore"),  # words are joined by one underscore
        ("Trailing_", "trailing"),
        ("_Leading", "leading"),
        ("Café Lovers", "caf_lovers"),  # a letter with an accent only separates
        ("日本", ""),  # nothing is left: no key
        ("A/B Test Group B", "a_b_test_group_b"),
        ("HTMLPage", "htmlpage"),  # a run of capitals goes on into the small letters
        ("2FA Enabled", "2fa_enabled"),  # digits may open a word
        ("Enabled 2FA", "enabled_2fa"),
        ("User.Name", "user_name"),
        ("100% Off", "100_off"),
        ("snake_Case_Mixed", "snake_case_mixed"),
        ("ABCDef", "abcdef"),
        ("Lookalike1Percent", "lookalike1_percent"),
        ("Users w/ >= 3 Orders", "users_w_3_orders"),
        ("Zip90210", "zip90210"),
        ("All Users: Order Completed", "all_users_order_completed"),
        ("3 Product Views in Last 60 Days", "3_product_views_in_last_60_days"),
    ],
)
def test_key_of_name(name: str, key: str) -> None:
    assert snake_case(name) == key


@given(st.text())
def test_a_key_is_its_own_key(name: str) -> None:
    key = snake_case(name)
    assert re.fullmatch(r"([a-z0-9]+(_[a-z0-9]+)*)?", key)
    assert snake_case(key) == key
