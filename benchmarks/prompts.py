"""Prompts of the benchmarks, in the project's own words."""

from __future__ import annotations

VARIED = (
    "Explain to a ten-year-old why the sky is blue.",
    "Write a Python function that merges two sorted lists without using sorted().",
    "List five ways to save water at home, one sentence each.",
    "Translate into French: The train to the coast leaves at seven every morning.",
    "What is the capital of Australia, and why was it chosen?",
    "Write a short story that begins with: The lighthouse had been dark for years.",
    'Return a JSON object that describes a bicycle with the keys "brand", "gears" and "colour".',
    "If a shirt costs 24 euros after a discount of 20 percent, what did it cost before?",
    "Summarise in two sentences: Bees collect nectar, carry pollen between flowers, and keep their "
    "hive at a steady temperature even in winter. Without them many crops would fail.",
    "Write a polite e-mail to a neighbour whose dog barks at night.",
    "Describe the taste of a lemon without using the word sour.",
    "Give me a regular expression that matches dates like 2024-05-31, and explain each part.",
    "Who wrote the play Hamlet, and what is it about?",
    "Write four lines of verse about a rusty gate.",
    "What are the differences between a list and a tuple in Python?",
    "Plan a day in a small mountain village for a family with two children.",
    "Convert 72 degrees Fahrenheit to Celsius and show the steps.",
    "Write an SQL query that returns the three customers with the most orders.",
    "Explain what a hash table is, with an everyday comparison.",
    "Repeat this sentence five times: The quick brown fox jumps over the lazy dog.",
    "Give three arguments for and three against working from home.",
    "Write a C function that reverses a string in place.",
    "What happens to a candle flame in zero gravity?",
    "Make a table in Markdown of the four seasons with months, weather and a typical food.",
    "Continue the list: apple, banana, cherry, date,",
    "Translate into German: I would like a cup of coffee and a slice of cake, please.",
    "Write a dialogue between a cat and a robot vacuum cleaner.",
    "How do vaccines work?",
    "Count from one to thirty in words.",
    "Write a recipe for a simple vegetable soup with quantities.",
    "A farmer has 17 sheep. All but nine run away. How many are left? Explain.",
    "Explain the rules of chess in ten short sentences.",
    "Write unit tests with pytest for a function add(a, b).",
    "Name the planets of the solar system in order and one fact about each.",
    "Write the opening paragraph of a detective novel set in a library.",
    "What should I check before I buy a used car?",
    "Rewrite in a friendlier tone: Your request was rejected. Fill in the form again.",
    "Write a shell command that finds all files larger than 100 MB, and explain its options.",
    "Why do leaves change colour in autumn?",
    "Write a limerick about a programmer who forgot a semicolon.",
)

PROSE = (
    "Write a long story about a clockmaker who repairs a clock that runs backwards.",
    "Describe a walk along a winter beach, with everything that you hear and smell.",
    "Tell me about a grandmother who teaches her grandson to bake bread.",
    "Write an essay about silence in a noisy city.",
    "Describe the last day of a travelling circus in a small town.",
)

_INVENTORY = '''\
class Inventory:
    """Counts the items of a shop by name."""

    def __init__(self, shop_name, currency):
        self.shop_name = shop_name
        self.currency = currency
        self.item_counts = {}
        self.item_prices = {}
        self.history = []

    def add_item(self, name, count, price):
        if count <= 0:
            raise ValueError("count must be positive")
        if price < 0:
            raise ValueError("price must not be negative")
        self.item_counts[name] = self.item_counts.get(name, 0) + count
        self.item_prices[name] = price
        self.history.append(("add", name, count))

    def remove_item(self, name, count):
        if name not in self.item_counts:
            raise KeyError(name)
        if count > self.item_counts[name]:
            raise ValueError("not enough items")
        self.item_counts[name] -= count
        self.history.append(("remove", name, count))
        if self.item_counts[name] == 0:
            del self.item_counts[name]
            del self.item_prices[name]

    def total_value(self):
        total = 0
        for name, count in self.item_counts.items():
            total += count * self.item_prices[name]
        return total

    def most_valuable(self):
        best_name = None
        best_value = 0
        for name, count in self.item_counts.items():
            value = count * self.item_prices[name]
            if value > best_value:
                best_name = name
                best_value = value
        return best_name

    def report(self):
        lines = [self.shop_name]
        for name in sorted(self.item_counts):
            count = self.item_counts[name]
            price = self.item_prices[name]
            lines.append(f"{name}: {count} at {price} {self.currency}")
        lines.append(f"total: {self.total_value()} {self.currency}")
        return "\\n".join(lines)
'''

COPY_HEAVY = (
    "Rewrite this code with the name item_counts changed to stock. Change nothing else and give "
    f"only the code.\n\n```python\n{_INVENTORY}```"
)
COPY_BEGINNING = "```python\n" + _INVENTORY.split("        self.item_counts")[0]
