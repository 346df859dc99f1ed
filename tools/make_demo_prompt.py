#!/usr/bin/env python3
"""Writes docs/demo/prompt.txt: the logbook of an invented lighthouse, about 2,700 words made from a seed, with one fact
in the middle (a pass key) and the question for it at the end, as a text to be completed.

python3 tools/make_demo_prompt.py > docs/demo/prompt.txt
"""
import random

SEED = 20
DAYS = 31
PASS_KEY = 70461

WEATHER = [
    "{Wind} from the {quarter}, {sea}, and {sky} until {hour}.",
    "The glass {glass} all morning and by {hour} we had {wind} out of the {quarter}.",
    "{Sky} at dawn, then {wind} from the {quarter} and {sea} for the rest of the day.",
    "I woke to {wind} and found {sea} under the {quarter} cliff.",
    "Nothing to report of the sky but {sky}, with {wind} that turned to the {quarter} before {hour}.",
]
SHIPS = [
    "The {ship} passed {side} at {hour}, bound for {port} with {cargo}.",
    "At {hour} we answered the lamp of the {ship}, {days} days out of {port}, carrying {cargo}.",
    "A boat from the {ship} came in to the landing for water and told us that {cargo} fetches a poor price in {port}.",
    "We counted {count} sails before {hour}; only the {ship} stood in close enough to be named.",
    "The {ship} lay in the lee of the island from noon and left for {port} when {sky} came back.",
    "No ship all day, though {person} swears to have seen the {ship} hull down to the {quarter}.",
]
WORK = [
    "{Person} and I {task} and did not finish before {hour}.",
    "Spent the forenoon on the {part}, which {trouble}; {person} held the lantern while I {fix}.",
    "{Person} {task} alone, since my hand is still stiff from the {part}.",
    "We {task}, a thing put off since the {season}.",
    "The {part} {trouble} again, so I {fix} and wrote the hour on the slate by the door.",
    "By {hour} the {part} was back in its place and {person} went below to sleep.",
]
HOUSE = [
    "{Person} baked with the last of the {food} and we ate on the south wall in the sun.",
    "The {animal} has learned to open the store and took a good share of the {food}.",
    "A letter came for {person}, who read it twice and then talked of nothing but {port}.",
    "{Person} is teaching me to play {game}, and I lose with more grace than in the {season}.",
    "We have {food} for {days} days more, and after that only what the {animal} leaves us.",
    "In the evening {person} read aloud from the old almanac while I mended the {cloth}.",
    "The {animal} slept by the stove, a sign, {person} says, that the {season} will be long.",
]
THOUGHT = [
    "It is strange how soon one stops hearing the sea.",
    "I wrote the figures into the large book and signed below them.",
    "The light was lit at the proper time and burned clear until morning.",
    "A quiet watch is the best reward that this rock has to offer.",
    "I thought of home for an hour and then the lamp wanted oil.",
    "There are days here that leave no mark except the one in this book.",
    "One learns to be glad of small things, a dry coat or a straight wick.",
    "If anybody reads this later, let him know that we were content.",
    "The stars were so many that the lamp seemed a little foolish among them.",
    "I have promised myself to write less about the weather, and have failed again.",
]
WORDS = {
    "wind": ["a light breeze", "a fresh breeze", "half a gale", "a full gale", "a steady wind", "a thin cold wind", "gusts that shook the door"],
    "quarter": ["north", "north-east", "east", "south-east", "south", "south-west", "west", "north-west"],
    "sea": ["a long swell", "a short steep sea", "water as flat as a table", "white caps as far as one could see", "a heavy surf"],
    "sky": ["high thin cloud", "fog as thick as wool", "clear weather", "rain without a pause", "sleet", "a low grey ceiling", "haze on the horizon"],
    "hour": ["six bells", "noon", "three o'clock", "the evening watch", "first light", "ten in the morning", "sunset", "midnight"],
    "glass": ["fell", "rose slowly", "stood still", "wavered", "sank without haste"],
    "ship": ["Marigold", "Prudence", "Swift Return", "Anna Kristin", "Old Bargain", "Harrier", "Blue Lantern", "Second Thought",
             "Perseverance", "Hector", "Good Intent", "Lark", "Candlemas", "Widow's Son"],
    "side": ["to the north of us", "inside the reef", "well outside the bar", "close under the cliff"],
    "port": ["Vardholm", "Saint Orlo", "Kestrel Bay", "Norrick", "the Marren Islands", "Port Ashby", "Lowhaven", "Tallis Quay"],
    "cargo": ["salt and rope", "timber", "wool", "dried fish", "copper pans", "seed potatoes", "window glass", "church bells", "lamp oil", "oranges"],
    "count": ["three", "four", "five", "seven", "nine", "eleven"],
    "days": ["two", "three", "five", "six", "eight", "twelve"],
    "person": ["Osmund", "Berit", "old Halvard", "the boy Tam", "Mrs. Quill", "Edda"],
    "task": ["whitewashed the east wall", "hauled oil up the hundred and twelve steps", "scraped rust from the gallery rail",
             "cleared the gutters", "moved the coal out of the wet", "tarred the boat", "cut new wicks for a month", "polished the lens",
             "laid stones on the path to the landing", "rehung the shutters"],
    "part": ["clockwork", "pressure pump", "fog bell", "rain cistern", "weather vane", "signal lamp", "winch", "chimney", "lower hinge"],
    "trouble": ["sticks in the damp", "groans like a ship", "lost a screw", "leaks at the seam", "runs slow", "came loose in the night"],
    "fix": ["filed the edge smooth", "packed it with tallow", "tied it with wire", "took it apart to the last pin", "gave it a new leather"],
    "season": ["spring", "autumn", "first frost", "last inspection", "summer storms"],
    "food": ["flour", "bacon", "apples", "barley", "honey", "onions", "smoked herring"],
    "animal": ["goat", "cat", "one-eyed gull", "dog", "youngest hen"],
    "game": ["draughts", "the fiddle", "whist", "chess"],
    "cloth": ["storm flag", "blue coat", "fishing net", "second best blanket", "sail of the small boat"],
}
MONTHS = [("March", 31), ("April", 30), ("May", 31)]


class Scribe:
    def __init__(self, seed):
        self.random = random.Random(seed)
        self.decks = {}

    def draw(self, name, cards):
        """Every card once before any comes again."""
        deck = self.decks.setdefault(name, [])
        if not deck:
            deck.extend(cards)
            self.random.shuffle(deck)
        return deck.pop()

    def sentence(self, name, templates):
        text = self.draw(name, templates)
        while "{" in text:
            begin, end = text.index("{"), text.index("}")
            key = text[begin + 1:end]
            word = self.draw(key.lower(), WORDS[key.lower()])
            text = text[:begin] + (word[0].upper() + word[1:] if key[0].isupper() else word) + text[end + 1:]
        return text


def main():
    scribe = Scribe(SEED)
    kinds = {"weather": WEATHER, "ships": SHIPS, "work": WORK, "house": HOUSE, "thought": THOUGHT}
    print("The Logbook of Grey Skerry Light, kept by its first assistant. One fact in it matters more than all the others: "
          "a pass key. Remember it, for there is a question about it at the end.\n")
    month, day = 0, 3
    for entry in range(DAYS):
        sentences = [scribe.sentence("weather", WEATHER)]
        for kind in scribe.random.sample(["ships", "work", "house"], 3):
            sentences.append(scribe.sentence(kind, kinds[kind]))
        if entry % 2 == 0:
            sentences.append(scribe.sentence("thought", THOUGHT))
        if entry == DAYS // 2:
            sentences.insert(2, f"The inspector's box has a new lock. The pass key is {PASS_KEY}. "
                                f"Remember it: {PASS_KEY} is the pass key.")
        print(f"{MONTHS[month][0]} {day}. {' '.join(sentences)}\n")
        day += scribe.random.choice([1, 1, 2])
        if day > MONTHS[month][1]:
            month, day = month + 1, day - MONTHS[month][1]
    print("Here the logbook ends. What is the pass key of the inspector's box? The pass key is", end="")


if __name__ == "__main__":
    main()
