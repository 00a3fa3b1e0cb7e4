"""Coins, networks and prices of the pretended world. Prices never move, so that every amount can be computed by hand."""

import secrets
from dataclasses import dataclass
from decimal import ROUND_UP, Decimal

_BASE58 = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
_BECH32 = "023456789acdefghjklmnpqrstuvwxyz"
_BASE64URL = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ-_abcdefghijklmnopqrstuvwxyz"
_HEX = "0123456789abcdef"


@dataclass(frozen=True)
class Network:
    """A chain: its title, other names, the look of its addresses, confirmations, and whether it needs a memo."""

    title: str
    aliases: tuple
    prefix: str
    alphabet: str
    length: int
    confirmations: int
    memo: bool = False


@dataclass(frozen=True)
class Coin:
    """A coin: its name, its price in USD, its networks, the default one first, and the decimals that amounts are asked in."""

    title: str
    price: Decimal
    networks: tuple
    decimals: int = 8


NETWORKS = {
    "tron": Network("Tron", ("trc20", "trx"), "T", _BASE58, 33, 20),
    "ethereum": Network("Ethereum", ("erc20", "eth"), "0x", _HEX, 40, 12),
    "bsc": Network("Binance Smart Chain", ("bep20", "bnb"), "0x", _HEX, 40, 15),
    "polygon": Network("Polygon", ("matic", "pol"), "0x", _HEX, 40, 40),
    "bitcoin": Network("Bitcoin", ("btc",), "bc1q", _BECH32, 38, 2),
    "bitcoincash": Network("Bitcoin Cash", ("bch",), "q", _BECH32, 41, 6),
    "litecoin": Network("Litecoin", ("ltc",), "ltc1q", _BECH32, 38, 6),
    "dogecoin": Network("Dogecoin", ("doge",), "D", _BASE58, 33, 20),
    "solana": Network("Solana", ("sol",), "", _BASE58, 44, 30),
    "ton": Network("TON", ("toncoin",), "UQ", _BASE64URL, 46, 1),
    "fantom": Network("Fantom", ("ftm",), "0x", _HEX, 40, 5),
    "ripple": Network("Ripple", ("xrp",), "r", _BASE58, 33, 1, memo=True),
}
COINS = {
    "USDT": Coin("Tether", Decimal("1"), ("tron", "ethereum", "bsc", "polygon"), 6),
    "USDC": Coin("USD Coin", Decimal("1"), ("ethereum", "polygon", "bsc"), 6),
    "BTC": Coin("Bitcoin", Decimal("64000"), ("bitcoin",)),
    "ETH": Coin("Ethereum", Decimal("2500"), ("ethereum", "bsc")),
    "TRX": Coin("TRON", Decimal("0.25"), ("tron",), 6),
    "BNB": Coin("BNB", Decimal("640"), ("bsc",)),
    "POL": Coin("Polygon", Decimal("0.36839"), ("polygon",)),
    "BCH": Coin("Bitcoin Cash", Decimal("400"), ("bitcoincash",)),
    "LTC": Coin("Litecoin", Decimal("80"), ("litecoin",)),
    "DOGE": Coin("Dogecoin", Decimal("0.16"), ("dogecoin",)),
    "SOL": Coin("Solana", Decimal("160"), ("solana",)),
    "TON": Coin("Toncoin", Decimal("3.2"), ("ton",)),
    "FTM": Coin("Fantom", Decimal("0.5"), ("fantom",), 6),
    "XRP": Coin("XRP", Decimal("0.5"), ("ripple",), 6),
}
# symbol: USD for one unit, decimals shown
FIATS = {
    "USD": (Decimal("1"), 2),
    "EUR": (Decimal("1.1"), 2),
    "GBP": (Decimal("1.25"), 2),
    "CHF": (Decimal("1.12"), 2),
    "JPY": (Decimal("0.008"), 0),
    "PLN": (Decimal("0.25"), 2),
    "TRY": (Decimal("0.03"), 2),
    "CNY": (Decimal("0.14"), 2),
}


def usd_price(symbol):
    """USD for one unit of a coin or a fiat currency, None where the symbol is unknown."""
    if symbol in COINS:
        return COINS[symbol].price
    return FIATS[symbol][0] if symbol in FIATS else None


def round_up(amount, symbol):
    """To the coin's last decimal, so that what is asked for is never short of the price."""
    return amount.quantize(Decimal(1).scaleb(-COINS[symbol].decimals), rounding=ROUND_UP)


def find_network(name):
    """The key in ``NETWORKS`` of a network that is named in any common way ("tron", "TRC20", "Tron Network"), or None."""
    wanted = name.strip().lower().removesuffix(" network")
    for key, network in NETWORKS.items():
        if wanted in (key, network.title.lower(), *network.aliases):
            return key
    return None


def new_address(network):
    """A random address that looks right for the network. Nobody has its key: never send money to it."""
    look = NETWORKS[network]
    return look.prefix + "".join(secrets.choice(look.alphabet) for _ in range(look.length))


def new_hash(network):
    """A random transaction hash."""
    return ("0x" if NETWORKS[network].prefix == "0x" else "") + secrets.token_hex(32)
