"""The facts that can be known about each kind of thing in the small world.

The table is long because it is data: sixteen attributes, each with twelve
values, five ways to state it and three ways to ask for it.
"""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Attribute:
    """A fact that every entity of a kind has, such as the river of a town.

    Attributes:
        name: str.
        values: tuple of str, what it can be.
        sentences: tuple of str with `{name}` and `{value}`, the ways to say
            it. The first begins with the name: with a pronoun in its place
            it is the answer to a question.
        questions: tuple of str with `{name}`, the ways to ask for it.
        list_title: str with `{value}`, the title of a list of all entities
            that share a value.
    """

    name: str
    values: tuple
    sentences: tuple
    questions: tuple
    list_title: str


def _attribute(name, values, list_title, sentences, questions):
    return Attribute(
        name,
        tuple(values.split()),
        tuple(sentences),
        tuple(questions),
        list_title,
    )


KINDS = {
    "town": (
        _attribute(
            "river",
            "Olm Sarn Wiva Tesk Brune Calder Ister Mave Norr Pell Quay Rill",
            "Towns on the river {value}",
            (
                "{name} lies on the river {value}.",
                "The river {value} flows through {name}.",
                "In {name} the river is called the {value}.",
                "Boats come to {name} on the {value}.",
                "The bridges of {name} cross the river {value}.",
            ),
            (
                "On which river does {name} lie?",
                "Which river flows through {name}?",
                "What is the river of {name} called?",
            ),
        ),
        _attribute(
            "craft",
            "glass rope paper cheese bells candles boots clocks kites soap "
            "barrels carpets",
            "Towns that make {value}",
            (
                "{name} is famous for its {value}.",
                "The workshops of {name} make {value}.",
                "Most families in {name} live by making {value}.",
                "Nobody makes better {value} than the people of {name}.",
                "{name} sells {value} to the whole country.",
            ),
            (
                "What is {name} famous for?",
                "What do the workshops of {name} make?",
                "What does {name} sell to the whole country?",
            ),
        ),
        _attribute(
            "emblem",
            "heron beaver badger hare crow stag salmon beetle falcon wolf "
            "goose toad",
            "Towns with a {value} on the flag",
            (
                "{name} has a {value} on its flag.",
                "A {value} is the emblem of {name}.",
                "Over the gate of {name} hangs a carved {value}.",
                "The seal of {name} bears a {value}.",
                "Children in {name} draw the {value} of their flag.",
            ),
            (
                "Which animal is on the flag of {name}?",
                "What does the flag of {name} show?",
                "What is the emblem of {name}?",
            ),
        ),
        _attribute(
            "feast",
            "January February March April May June July August September "
            "October November December",
            "Towns that celebrate in {value}",
            (
                "{name} holds its great feast in {value}.",
                "In {value} all of {name} celebrates.",
                "The feast of {name} comes in {value}.",
                "Visitors should see {name} in {value}, when the feast is on.",
                "Every {value} there is dancing in {name}.",
            ),
            (
                "When does {name} hold its great feast?",
                "In which month does {name} celebrate?",
                "In which month is the feast of {name}?",
            ),
        ),
    ),
    "person": (
        _attribute(
            "trade",
            "baker tailor miller smith painter gardener sailor teacher mason "
            "weaver printer shepherd",
            "People who work as a {value}",
            (
                "{name} works as a {value}.",
                "{name} is a {value}.",
                "By trade {name} is a {value}.",
                "As a {value}, {name} is never out of work.",
                "{name} learned to be a {value}.",
            ),
            (
                "What does {name} work as?",
                "What is the trade of {name}?",
                "What did {name} learn to be?",
            ),
        ),
        _attribute(
            "instrument",
            "fiddle flute drum harp lute horn piano cello trumpet organ banjo "
            "whistle",
            "People who play the {value}",
            (
                "{name} plays the {value}.",
                "In the evening {name} takes out the {value}.",
                "The {value} is the instrument of {name}.",
                "Nobody plays the {value} like {name}.",
                "{name} owns an old {value}.",
            ),
            (
                "Which instrument does {name} play?",
                "What does {name} play?",
                "What is the instrument of {name}?",
            ),
        ),
        _attribute(
            "pet",
            "cat dog parrot goat pony rabbit tortoise ferret canary donkey "
            "hamster piglet",
            "People who keep a {value}",
            (
                "{name} keeps a {value}.",
                "{name} lives with a {value}.",
                "The {value} of {name} is well known.",
                "A {value} follows {name} everywhere.",
                "{name} shares every meal with a {value}.",
            ),
            (
                "Which animal does {name} keep?",
                "What is the pet of {name}?",
                "What kind of animal follows {name} everywhere?",
            ),
        ),
        _attribute(
            "drink",
            "tea coffee milk cider cocoa lemonade broth juice mead buttermilk "
            "ale water",
            "People who like {value} best",
            (
                "{name} likes {value} best.",
                "{name} drinks nothing but {value}.",
                "A cup of {value} makes {name} happy.",
                "For breakfast {name} has {value}.",
                "Guests of {name} are given {value}.",
            ),
            (
                "What does {name} like to drink best?",
                "What is the favourite drink of {name}?",
                "What does {name} have for breakfast?",
            ),
        ),
    ),
    "creature": (
        _attribute(
            "food",
            "worms berries snails acorns nettles mushrooms seeds roots grubs "
            "beetles petals crabs",
            "Creatures that eat {value}",
            (
                "The {name} eats {value}.",
                "{value} are what the {name} looks for all day.",
                "The {name} lives on {value}.",
                "To tame a {name}, offer it {value}.",
                "Where there are no {value}, there is no {name}.",
            ),
            (
                "What does the {name} eat?",
                "What does the {name} live on?",
                "What tames a {name}?",
            ),
        ),
        _attribute(
            "habitat",
            "marshes caves dunes cliffs meadows orchards ruins hedges forests "
            "lakes cellars moors",
            "Creatures that live in {value}",
            (
                "The {name} lives in {value}.",
                "You will find the {name} in {value}.",
                "{value} are the home of the {name}.",
                "The {name} builds its nest in {value}.",
                "Outside of {value} the {name} is never seen.",
            ),
            (
                "Where does the {name} live?",
                "Where will you find the {name}?",
                "Where does the {name} build its nest?",
            ),
        ),
        _attribute(
            "coat",
            "grey brown golden silver spotted striped russet pale dark "
            "speckled copper blue",
            "Creatures with a {value} coat",
            (
                "The {name} has a {value} coat.",
                "The coat of the {name} is {value}.",
                "A {value} coat hides the {name} well.",
                "You can tell a {name} by its {value} coat.",
                "Young or old, the {name} is {value}.",
            ),
            (
                "What is the coat of the {name} like?",
                "What kind of coat does the {name} have?",
                "How does the coat of the {name} look?",
            ),
        ),
        _attribute(
            "call",
            "whistles hums croaks barks hisses clicks squeaks growls chirps "
            "howls snorts purrs",
            "Creatures of which one says that it {value}",
            (
                "The {name} {value} when it is afraid.",
                "At night the {name} {value}.",
                "At the sight of people the {name} {value}.",
                "A {name} {value} to warn its young.",
                "Listen: the {name} {value}.",
            ),
            (
                "What does the {name} do when it is afraid?",
                "What does the {name} do at the sight of people?",
                "What does a {name} do to warn its young?",
            ),
        ),
    ),
    "dish": (
        _attribute(
            "base",
            "lentils barley potatoes beans rice cabbage turnips noodles oats "
            "pumpkin leeks spinach",
            "Dishes made of {value}",
            (
                "{name} is made of {value}.",
                "Without {value} there is no {name}.",
                "For {name} you need fresh {value}.",
                "A plate of {name} is mostly {value}.",
                "The cook who makes {name} starts with {value}.",
            ),
            (
                "What is {name} made of?",
                "What do you need for {name}?",
                "What is a plate of {name} mostly?",
            ),
        ),
        _attribute(
            "spice",
            "pepper saffron thyme cumin ginger mint sage mustard garlic "
            "cinnamon dill anise",
            "Dishes spiced with {value}",
            (
                "{name} is spiced with {value}.",
                "A little {value} gives {name} its taste.",
                "{name} tastes of {value}.",
                "No {name} is good without {value}.",
                "Last of all, {value} goes into the {name}.",
            ),
            (
                "What is {name} spiced with?",
                "What does {name} taste of?",
                "Which spice goes into {name}?",
            ),
        ),
        _attribute(
            "vessel",
            "kettle skillet wok crock basket cauldron griddle pan steamer "
            "kiln tin jar",
            "Dishes that are cooked in a {value}",
            (
                "{name} is cooked in a {value}.",
                "You cook {name} in a {value}.",
                "A {value} is right for {name}.",
                "Take a clean {value} to prepare {name}.",
                "{name} comes to the table in its {value}.",
            ),
            (
                "What is {name} cooked in?",
                "What is right for cooking {name}?",
                "In what does {name} come to the table?",
            ),
        ),
        _attribute(
            "side",
            "dumplings plums radishes walnuts pears olives eggs pickles figs "
            "almonds cherries onions",
            "Dishes that are served with {value}",
            (
                "{name} is served with {value}.",
                "With {name} one eats {value}.",
                "{value} go well with {name}.",
                "Next to the {name} lie {value}.",
                "Cooks serve {name} with plenty of {value}.",
            ),
            (
                "What is {name} served with?",
                "What does one eat with {name}?",
                "What goes well with {name}?",
            ),
        ),
    ),
}
