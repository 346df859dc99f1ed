#include "mneme/interpret/capitals.h"

namespace mneme {
namespace {

constexpr Fact kCapitals[] = {
    {"Afghanistan", "Kabul"},     {"Albania", "Tirana"},
    {"Algeria", "Algiers"},       {"Angola", "Luanda"},
    {"Argentina", "Buenos Aires"}, {"Armenia", "Yerevan"},
    {"Australia", "Canberra"},    {"Austria", "Vienna"},
    {"Azerbaijan", "Baku"},       {"Bangladesh", "Dhaka"},
    {"Belarus", "Minsk"},         {"Belgium", "Brussels"},
    {"Brazil", "Brasilia"},       {"Bulgaria", "Sofia"},
    {"Cambodia", "Phnom Penh"},   {"Canada", "Ottawa"},
    {"Chile", "Santiago"},        {"China", "Beijing"},
    {"Colombia", "Bogota"},       {"Croatia", "Zagreb"},
    {"Cuba", "Havana"},           {"Cyprus", "Nicosia"},
    {"Denmark", "Copenhagen"},    {"Ecuador", "Quito"},
    {"Egypt", "Cairo"},           {"Estonia", "Tallinn"},
    {"Ethiopia", "Addis Ababa"},  {"Finland", "Helsinki"},
    {"France", "Paris"},          {"Georgia", "Tbilisi"},
    {"Germany", "Berlin"},        {"Ghana", "Accra"},
    {"Greece", "Athens"},         {"Hungary", "Budapest"},
    {"Iceland", "Reykjavik"},     {"India", "New Delhi"},
    {"Indonesia", "Jakarta"},     {"Iran", "Tehran"},
    {"Iraq", "Baghdad"},          {"Ireland", "Dublin"},
    {"Italy", "Rome"},            {"Jamaica", "Kingston"},
    {"Japan", "Tokyo"},           {"Jordan", "Amman"},
    {"Kazakhstan", "Astana"},     {"Kenya", "Nairobi"},
    {"Latvia", "Riga"},           {"Lebanon", "Beirut"},
    {"Libya", "Tripoli"},         {"Lithuania", "Vilnius"},
    {"Malaysia", "Kuala Lumpur"}, {"Mali", "Bamako"},
    {"Malta", "Valletta"},        {"Mexico", "Mexico City"},
    {"Mongolia", "Ulaanbaatar"},  {"Morocco", "Rabat"},
    {"Mozambique", "Maputo"},     {"Namibia", "Windhoek"},
    {"Nepal", "Kathmandu"},       {"New Zealand", "Wellington"},
    {"Nicaragua", "Managua"},     {"Nigeria", "Abuja"},
    {"North Korea", "Pyongyang"}, {"Norway", "Oslo"},
    {"Oman", "Muscat"},           {"Pakistan", "Islamabad"},
    {"Paraguay", "Asuncion"},     {"Peru", "Lima"},
    {"Poland", "Warsaw"},         {"Portugal", "Lisbon"},
    {"Qatar", "Doha"},            {"Romania", "Bucharest"},
    {"Russia", "Moscow"},         {"Rwanda", "Kigali"},
    {"Saudi Arabia", "Riyadh"},   {"Senegal", "Dakar"},
    {"Serbia", "Belgrade"},       {"Slovakia", "Bratislava"},
    {"Slovenia", "Ljubljana"},    {"Somalia", "Mogadishu"},
    {"South Korea", "Seoul"},     {"Spain", "Madrid"},
    {"Sudan", "Khartoum"},        {"Sweden", "Stockholm"},
    {"Switzerland", "Bern"},      {"Syria", "Damascus"},
    {"Taiwan", "Taipei"},         {"Thailand", "Bangkok"},
    {"Tunisia", "Tunis"},         {"Turkey", "Ankara"},
    {"Uganda", "Kampala"},        {"Ukraine", "Kyiv"},
    {"United Kingdom", "London"}, {"Uruguay", "Montevideo"},
    {"Uzbekistan", "Tashkent"},   {"Venezuela", "Caracas"},
    {"Vietnam", "Hanoi"},         {"Yemen", "Sanaa"},
    {"Zambia", "Lusaka"},         {"Zimbabwe", "Harare"}};

}  // namespace

std::span<const Fact> world_capitals() { return kCapitals; }

}  // namespace mneme
