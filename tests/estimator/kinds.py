"""Easy and hard prompts of several kinds, in our own words."""

from __future__ import annotations

KINDS = {
    "word problems": (
        [
            "Mia has 3 pens and buys 2 more. How many pens does she have?",
            "A ticket costs $4. What do 6 tickets cost?",
            "Tom reads 10 pages a day. How many pages does he read in a week?",
            "There are 12 eggs in a box. Lea uses 5. How many are left?",
            "A rope is 9 metres long. It is cut into three pieces. How long is each piece?",
            "Ben is 8 and his sister is twice as old. How old is she?",
        ],
        [
            "A farmer plants 14 rows of 22 trees. Half of them are apple trees, and a third of "
            "the rest bear pears. In spring he fells 30 trees and sells each of them for $25. "
            "How much does he earn if he keeps two of every ten for himself?",
            "A baker makes 48 rolls an hour for 3 hours, sells two thirds of them at $0.75 and a "
            "quarter of the rest at half price. The flour cost $20 and the oven $4.50 an hour. "
            "What is her profit if 6 rolls were burnt?",
            "Three friends share a taxi. The first 2 miles cost $5, each further mile $1.50. Ann "
            "leaves after 4 miles, Bo after 9 and Cy after 15. Each stage is split equally "
            "between those in the car. How much more than Ann does Cy pay?",
            "A tank holds 600 litres. One pipe fills it in 8 hours, a second in 12, and a leak "
            "empties a full tank in 24. Both pipes are opened at 6 a.m.; the second is closed "
            "after 3 hours. At what time is the tank three quarters full?",
            "Dana saves 15% of $2,400 each month for five months, spends a fifth of it on a "
            "bicycle, and gets twice the price of the old one, $85, from her aunt. Her twin "
            "saves half as much for 10 months. How much do the two have together?",
            "In a school of 360 pupils, two fifths walk, 25% come by bus and half of the rest "
            "cycle. Of the walkers one in six also takes a scooter. How many more come by bus "
            "than by scooter, if 9 pupils are ill?",
        ],
    ),
    "exam questions": (
        [
            "Which planet is nearest to the sun?\nA. Venus\nB. Mercury\nC. Mars\nD. Earth",
            "The opposite of hot is\nA. cold\nB. wet\nC. dry\nD. loud",
            "Who leads an orchestra?\nA. The conductor\nB. The usher\nC. The critic\nD. The tenor",
            "What do bees make?\nA. Silk\nB. Honey\nC. Wool\nD. Paper",
            "The capital of Italy is\nA. Milan\nB. Turin\nC. Rome\nD. Bari",
            "What do plants take in?\nA. Oxygen\nB. Carbon dioxide\nC. Helium\nD. Neon",
        ],
        [
            "A 2 kg block slides down a 5 m slope at 30 degrees with a friction coefficient of "
            "0.2. What is its speed at the bottom?\nA. 4.1 m/s\nB. 5.7 m/s\nC. 7.0 m/s\nD. 9.9 "
            "m/s",
            "A seller tells a buyer that a car has never been in an accident. Neither knows that "
            "this is false. The contract says that no statement outside it counts. The buyer "
            "sues. Which of these would not help him?\nA. The statement was not a mere opinion.\n"
            "B. He would not have bought it without the statement.\nC. He had not read the "
            "contract.\nD. The clause does not cover what is false.",
            "A solution of 0.10 mol acetic acid and 0.15 mol of its salt in 1 litre has which "
            "pH, if the pKa is 4.76 and 0.02 mol of a strong base is added?\nA. 4.58\nB. 4.76\n"
            "C. 5.09\nD. 5.44",
            "For a prior of 1%, a test with a sensitivity of 90% and a false positive rate of "
            "9%, what is the probability of the disease after two positive results, if they are "
            "independent?\nA. 10%\nB. 50%\nC. 50.3%\nD. 90%",
            "Statement 1: every group of order 4 is cyclic. Statement 2: no group of order 5 is "
            "not abelian. Which of them is not false?\nA. Neither\nB. 1 but not 2\nC. 2 but not "
            "1\nD. Both",
            "An economy has a propensity to consume of 0.8, a tax rate of 25% and imports of 10% "
            "of income. Spending rises by $20 billion and taxes do not change. By how much does "
            "income rise?\nA. $20 billion\nB. $40 billion\nC. $50 billion\nD. $100 billion",
        ],
    ),
    "conversations": (
        [
            "Recommend a good book about trees.",
            "Rewrite this sentence politely: Give me the salt.",
            "What is a haiku?",
            "Suggest a name for a grey cat.",
            "Summarise what a mortgage is.",
            "Write a birthday greeting for my aunt.",
        ],
        [
            "Write a C++ program that finds the longest common part of two files of 5 million "
            "lines, without reading either of them twice, and explain why it is not quadratic.",
            "Prove that a number is divisible by 9 exactly if the sum of its digits is.",
            "Extract all dates, amounts and names from the three letters below, as JSON with one "
            "entry per letter. Do not invent any: use null for what is not there. Letters: on 3 "
            "May Mr Orr paid $200; on 9 June Ms Day paid nothing; nobody paid on 12 July.",
            "You flip a coin 10 times and roll two dice whenever it shows heads. What is the "
            "expected number of sixes, and how does it change if the coin shows heads in 3 of 5 "
            "flips?",
            "Design an experiment that tells whether plants grow better with music, and say "
            "which results would not convince you.",
            "Implement a queue with two stacks in Python, and give the cost of each operation.",
        ],
    ),
    "a mixture": (
        [
            "who sang the first song at the fair",
            "Translate 'see you tomorrow' into Spanish.",
            "Is the following review positive or negative? I loved it.\n(A) positive\n(B) negative",
            "What language is spoken in Brazil?",
            "Name the river that flows through Vienna.",
            "Correct the spelling: definately",
        ],
        [
            "def merge(a, b):\n    # returns the sorted union of two sorted lists\n",
            "Write an SQL query that lists each customer's three largest orders of 2023, without "
            "those that were returned.",
            "Find all integers n with 1 < n < 100 for which n^2 + 3n + 5 is divisible by 121.",
            "The rule of a game: 2 points for each pair, 5 for three of a kind, minus 1 for each "
            "card above ten, double for the last of four rounds. Ann has 7, 7, 7, 12 and 3; Bo "
            "has 9, 9, 4, 4 and 13. Who wins the last round, and by how many points?",
            "Show that every tree with two or more vertices has at least two leaves.",
            "A train passes a 240 m bridge in 21 s and a post in 9 s. How long is the train, and "
            "how fast is it in kilometres per hour?",
        ],
    ),
}
"""The easy and the hard prompts of each kind."""
